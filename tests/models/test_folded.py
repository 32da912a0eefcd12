"""The twin that attacks work on: the function of the model, with the weights of the moment; the model has the last word."""

import copy
from functools import partial

import pytest
import torch
from conftest import seeded_resnet
from torch import Tensor, nn

from pipeline.attacks.bim import bim
from pipeline.attacks.mim import mim
from pipeline.attacks.pgd import pgd
from pipeline.evaluation.robustness import Trial, Victim, attackable, attacked, predict, progress
from pipeline.models.folded import Folded
from pipeline.models.given.network import Given
from pipeline.models.half import Half
from pipeline.models.small_cnn import SmallCNN
from pipeline.training.twin import OnTwin


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x + torch.randn_like(x))


class Twice(nn.Module):
    """The convolution's output goes round its batch norm as well."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_mean.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        z = self.convolution(x)
        return (self.norm(z) + z).flatten(1)


def test_a_resnet_is_folded_whole_and_answers_alike() -> None:
    model, x = seeded_resnet(), torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = Folded(model, x[:1])
    twin = folded.now()
    assert not [part for part in twin.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(folded.pairs) == sum(isinstance(part, nn.BatchNorm2d) for part in model.modules()) > 100
    torch.testing.assert_close(twin(x), model.eval()(x))  # float64: as one function
    for answer, expected in zip(twin.forward_features(x)[1].values(), model.forward_features(x)[1].values(), strict=True):
        torch.testing.assert_close(answer, expected)


def test_the_twin_follows_the_weights_and_leaves_the_model_alone(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x = digits[0]
    trained.train()
    before = copy.deepcopy(trained.state_dict())
    folded = Folded(trained, x[:2])
    folded.now()
    assert all(module.training for module in trained.modules())
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        for tensor in [*trained.parameters(), trained[1].running_mean, trained[1].running_var]:
            tensor.mul_(1.5).add_(0.1)
    torch.testing.assert_close(folded.now()(x), copy.deepcopy(trained).eval()(x))
    assert all(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.parametrize("kind", [Noisy, Twice])
def test_nothing_is_folded_where_it_would_change_the_answer(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    x = torch.rand(3, 1, 6, 6)
    model(x)  # lazy layers
    folded = Folded(model, x)
    assert folded.pairs == []
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    assert torch.equal(folded.now()(x), expected)


def test_the_model_has_the_last_word(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """With a twin that calls all wrong at once, images that only it gets wrong are attacked on the model."""

    class Liar(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -trained(x)

    trial = Trial("bim", 0.1, partial(bim, steps=10, rel_step_size=0.2, stop="sample"), 32)
    with progress(128) as bar:
        expected, prediction = attacked(attackable(trained, digits[0]), *digits, trial, seed=0, bar=bar)
        assert torch.equal(prediction, predict(trained, expected, batch_size=128))
        assert 10 < (prediction == digits[1]).sum() < 118
        again, doubted = attacked(Victim(trained, Liar()), *digits, trial, seed=0, bar=bar)
    assert torch.equal(doubted, prediction)
    torch.testing.assert_close(again, expected)
    assert bar.n == 256


@pytest.mark.parametrize("attack", [bim, pgd, partial(mim, decay=1.0)])
def test_misclassified_images_make_room_for_others(attack: partial, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    sizes: list[int] = []
    trained.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    told: list[float] = []
    run = partial(attack, trained, *digits, 0.1, steps=10, rel_step_size=0.2)
    draws = [torch.Generator().manual_seed(0) for _ in range(3)]
    early = run(stop="sample", batch_size=20, generator=draws[0], done=told.append)
    full, sizes[:] = list(sizes), []
    assert sum(told) == 128
    assert full == sorted(full, reverse=True)
    assert full[0] == 20
    assert full.count(20) > 0.8 * len(full)
    assert sum(full) < 128 * 10  # there are images that make fewer steps
    assert torch.equal(early, run(stop="sample", generator=draws[1]))  # whoever they share the batch with
    late = run(generator=draws[2])
    right = predict(trained, early, batch_size=128) == digits[1]
    assert (predict(trained, late, batch_size=128) != digits[1])[right].sum() == 0  # no image that the last point breaks is missed
    torch.testing.assert_close(early[right], late[right])


def test_adversaries_work_on_a_twin_of_the_weights_of_the_moment(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    seen: list[nn.Module] = []

    def adversary(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(model)
        return model(x), y, torch.ones(len(y))

    on_twin, model = OnTwin(adversary), trained.train()
    for _ in range(2):
        logits, _, _ = on_twin(model, *digits, torch.Generator())
        torch.testing.assert_close(logits, copy.deepcopy(model).eval()(digits[0]))
        with torch.no_grad():
            model[0].weight.mul_(2.0)
    assert seen[0] is seen[1]
    assert seen[0] is not model
    assert model.training


@torch.no_grad()
def test_weights_in_bf16_answer_as_under_autocast() -> None:
    x = torch.rand(4, 1, 8, 8)
    model = SmallCNN(10, torch.zeros(1), torch.ones(1), widths=[8, 8, 8, 8], branch=8, penultimate=8).eval()
    twin = Folded(model, x).now()
    with torch.autocast("cpu", torch.bfloat16):
        expected = twin(x)
    assert torch.equal(Half(twin)(x), expected.float())
    assert all(parameter.dtype == torch.float32 for parameter in twin.parameters())


def test_attacks_in_bf16_are_judged_in_fp32(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model, x, y = trained.float(), digits[0].float(), digits[1]
    seen: list[torch.dtype] = []
    trained[0].register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    found = {}
    for precision in ("fp32", "bf16"):
        seen.clear()
        trial = Trial("pgd", 0.1, partial(pgd, steps=10, rel_step_size=0.25, stop="sample"), 64)
        with progress(len(x)) as bar:
            x_adv, prediction = attacked(attackable(model, x, precision), x, y, trial, seed=0, bar=bar)
        assert torch.equal(prediction, predict(model, x_adv, batch_size=128))
        assert x_adv.dtype == torch.float32
        assert (x_adv - x).abs().max() <= 0.1 + 1e-6
        found[precision] = int((prediction == y).sum())
        assert (torch.bfloat16 in seen) == (precision == "bf16")
    assert 10 < found["fp32"] < 118
    assert abs(found["bf16"] - found["fp32"]) <= 2


def test_a_convolution_whose_output_is_read_is_not_folded() -> None:
    """Folded, it would answer with what its batch norm makes of it, and an attack on this layer would aim there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    model[1].running_mean.fill_(1.0)
    x = torch.rand(2, 1, 8, 8)
    for layer, folded in (("0", False), ("1", True), ("3", True)):
        given = Given(model, x, layers=[layer])
        twin = attackable(given, x).twin
        assert (twin is not given) == folded
        torch.testing.assert_close(twin.forward_features(x)[1], given.forward_features(x)[1])
