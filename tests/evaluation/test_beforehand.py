"""What is seen of a model before it is attacked: plants that must be told apart, and honest models that must pass."""

import pytest
import torch
from plants import Around, same
from torch import Tensor, nn

from pipeline.evaluation.beforehand import Finding, above_chance, class_order, has_gradient, input_range, look, outputs
from pipeline.models.given.network import Given

Digits = tuple[Tensor, Tensor]


def seen(model: nn.Module, digits: Digits, *, normalised: bool = False) -> dict[str, Finding]:
    found = look(model, digits[0], digits[1], batch_size=64, normalised=normalised, training=False)
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def wrong(model: nn.Module, digits: Digits, *, normalised: bool = False) -> dict[str, str]:
    return {name: finding.level for name, finding in seen(model, digits, normalised=normalised).items() if finding.level != "ok"}


def test_an_honest_model_passes_and_stays_as_it_was(trained: nn.Module, digits: Digits) -> None:
    trained.train()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    assert wrong(trained, digits) == {}
    assert trained.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_an_untrained_model_is_noted_and_nothing_else(digits: Digits) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    assert set(wrong(model, digits)) <= {"clean accuracy"}


def test_probabilities_and_log_probabilities(trained: nn.Module, digits: Digits) -> None:
    assert wrong(Around(trained, same, lambda z: z.softmax(1)), digits)["outputs"] == "stop"
    assert wrong(Around(trained, same, lambda z: z.log_softmax(1)), digits) == {"outputs": "note"}
    assert wrong(Around(trained, same, torch.sigmoid), digits)["outputs"] == "note"
    assert outputs(torch.tensor([[0.2, 0.8], [3.0, 0.1]])).level == "ok"


def test_normalisation_that_was_forgotten_or_given_twice(trained: nn.Module, digits: Digits) -> None:
    expects = Around(trained, lambda x: x * 0.5 + 0.5, same)  # images in [-1, 1]
    finding = seen(expects, digits)["input"]
    assert finding.level == "stop"
    assert "--mean" in finding.advice
    assert wrong(Around(trained, lambda x: x / 255, same), digits)["input"] == "stop"
    twice = Given(trained.float(), digits[0][:2].float(), mean=torch.tensor([0.9]), std=torch.tensor([0.02]))
    finding = seen(twice, (digits[0].float(), digits[1]), normalised=True)["input"]
    right = 100 * (trained(digits[0].float()).argmax(1) == digits[1]).double().mean()  # as if it had not been given
    assert finding.level == "stop"
    assert f"on {right:.1f} % without its normalisation" in finding.text


class GainsByNormalisation(nn.Module):
    """Of images of three black or white pixels: the label, whether it is got wrong, whether it is as long as none is below 0."""

    def forward(self, x: Tensor) -> Tensor:
        plain = x.min() >= 0
        label, wrong, wrong_plain = (x.flatten(1) > (0.5 if plain else 0)).unbind(1)
        return nn.functional.one_hot((label ^ wrong ^ (wrong_plain & plain)).long(), 2).float()


@pytest.mark.parametrize(("gained", "level"), [(5, "ok"), (6, "stop")])
def test_another_normalisation_must_gain_two_points(gained: int, level: str) -> None:
    """5 of 256 images are 1.95 %, 6 are 2.34 %."""
    labels = torch.arange(256) % 2
    wrong, wrong_plain = torch.arange(256) >= 240, torch.arange(256) < gained
    images = torch.stack([labels, wrong, wrong_plain], dim=1).view(256, 1, 1, 3).float()
    finding = input_range(GainsByNormalisation(), images, labels, batch_size=64, normalised=False)
    assert finding.level == level
    assert f"{100 * (240 - gained) / 256:.1f} %" in finding.text


def test_another_order_of_the_classes_is_told_apart_from_a_bad_model(trained: nn.Module, digits: Digits) -> None:
    order = torch.tensor([1, 2, 0, 3, 4, 5, 6, 7, 9, 8])
    finding = seen(Around(trained, same, lambda z: z[:, order]), digits)["class order"]
    assert finding.level == "stop"
    assert "2 for label 0, 0 for label 1, 1 for label 2, 9 for label 8, 8 for label 9" in finding.text
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (200,), generator=generator)
    for logits in (torch.rand(200, 10, generator=generator), torch.eye(10)[torch.full((200,), 3)]):  # by chance; always the same
        assert class_order(logits, labels).level == "ok"


@pytest.mark.parametrize(
    ("moved", "named"),
    [(6, "1 for label 0, 2 for label 1, 3 for label 2, 4 for label 3, 5 for label 4, 0 for label 5)"), (7, "6 for label 5, ...)")],
)
def test_classes_in_another_order_are_counted_and_the_first_six_named(moved: int, named: str) -> None:
    """Ten images a class, of which the first `moved` have each other's numbers."""
    labels = torch.arange(10).repeat_interleave(10)
    answers = torch.where(labels < moved, (labels + 1) % moved, labels)
    text = class_order(torch.eye(10)[answers], labels).text
    assert f"{10 * (10 - moved)}.0 % are right, 100.0 % once its answers are renamed (it says 1 for label 0" in text
    assert text.endswith(named)


def test_chance_is_what_always_the_same_answer_gets_right() -> None:
    """Of 100 images 40 have the commonest label; two standard deviations of such a guess are 9.8 images."""
    labels = torch.tensor([0] * 40 + [1] * 30 + [2] * 30)
    assert above_chance(49.0, labels).level == "note"
    assert "chance is 40.0 %" in above_chance(50.0, labels).text


def test_more_labels_than_classes_and_answers_that_are_not_finite(trained: nn.Module, digits: Digits) -> None:
    with pytest.raises(ValueError, match="has 5 classes, the labels go up to 9: it needs 10"):
        seen(Around(trained, same, lambda z: z[:, :5]), digits)
    with pytest.raises(ValueError, match=r"answers to 128 of 128 images are not finite"):
        seen(Around(trained, same, lambda z: z / 0), digits)
    assert wrong(Around(trained, same, lambda z: nn.functional.pad(z, (0, 3), value=-9.0)), digits) == {"classes": "note"}


class Trains(nn.BatchNorm2d):
    """Batch norm that never leaves train mode."""

    def train(self, mode: bool = True) -> nn.BatchNorm2d:
        return super().train(True)


def test_random_answers_train_mode_and_no_gradient(trained: nn.Module, digits: Digits) -> None:
    noisy = Around(trained, lambda x: x + 0.1 * torch.randn_like(x), same)
    assert wrong(noisy, digits)["random"] == "note"
    by_batch = Around(trained, lambda x: x - x.mean(0, keepdim=True) + 0.3, same)
    assert wrong(by_batch, digits)["eval mode"] == "note"
    stuck = nn.Sequential(Trains(1).double(), trained)
    assert wrong(stuck, digits)["eval mode"] == "note"
    assert wrong(Around(trained, lambda x: x.detach(), same), digits)["gradient"] == "note"
    large = Around(trained, same, lambda z: 1e5 * z)
    assert "though the logits have one" in seen(large, digits)["gradient"].text


def test_a_gradient_at_some_pixels_is_one_and_images_without_any_are_counted(trained: nn.Module, digits: Digits) -> None:
    upper_half = Around(trained, lambda x: x * (torch.arange(8) < 4)[:, None], same)
    assert has_gradient(upper_half, *digits).level == "ok"
    first_half = Around(trained, lambda x: torch.cat([x[:64], x[64:].detach()]), same)
    assert "of 50 % of 128 images have no gradient at any pixel" in has_gradient(first_half, *digits).text


@pytest.mark.parametrize("levels", [1, 8, 255])
def test_quantised_pixels(levels: int, trained: nn.Module, digits: Digits) -> None:
    images = (digits[0] * 255).round() / 255
    found = wrong(Around(trained, lambda x: (x * levels).round() / levels, same), (images, digits[1]))
    assert found["quantised"] == "note"
    assert "quantised" not in wrong(trained, (images, digits[1]))


def test_untrained_networks_have_no_other_order(digits: tuple[Tensor, Tensor]) -> None:
    """They give one answer to several classes; of 2,000 drawn 11 were told so all the same, before answers were counted too 903."""
    x, y = digits
    found = []
    for seed in range(100):
        torch.manual_seed(seed)
        found.append(class_order(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()(x).detach(), y).level)
    assert found.count("ok") >= 95
