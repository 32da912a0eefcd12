"""The masking checks on models: planted defences are caught, an adversarially trained and an undefended model pass."""

from collections.abc import Callable
from functools import partial
from math import exp, log1p

import pytest
import torch
from plants import EPS, Around, Backwards, fit, same
from torch import Generator, Tensor, nn

from pipeline.attacks.apgd import apgd, apgd_targeted
from pipeline.attacks.bim import bim
from pipeline.attacks.fab import fab
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.objective import cross_entropy, dlr
from pipeline.attacks.pgd import pgd
from pipeline.attacks.square import square
from pipeline.attacks.steps import gradient
from pipeline.evaluation import masking
from pipeline.evaluation.signs import Check, masking_checks


def seeded() -> Generator:
    return Generator().manual_seed(0)


@pytest.fixture(scope="module")
def undefended() -> tuple[nn.Module, Tensor, Tensor]:
    return fit(5, adversarial=False)


@pytest.fixture(scope="module")
def robust() -> tuple[nn.Module, Tensor, Tensor]:
    return fit(5, adversarial=True)


def left(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    return model(x_adv).argmax(1) == y


def percent(mask: Tensor) -> float:
    return 100 * mask.double().mean().item()


def square_broken(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> float:
    """As AutoAttack: APGD-CE, APGD-T, FAB-T, then Square on what they leave."""
    gradient_attacks = [
        partial(apgd, steps=20, restarts=1),
        partial(apgd_targeted, steps=20, targets=3, restarts=1),
        partial(fab, steps=20, targets=3, restarts=1),
    ]
    standing = left(model, x, y)
    for attack in gradient_attacks:
        standing &= left(model, attack(model, x, y, eps, generator=seeded()), y)
    x_adv = square(model, x, y, eps, queries=150, p_init=0.8, generator=seeded())
    return percent(standing & ~left(model, x_adv, y))


def checked(model: nn.Module, other: nn.Module, x: Tensor, y: Tensor, eps: float) -> list[Check]:
    attacks = {
        "fgsm": fgsm,
        "bim": partial(bim, steps=10, rel_step_size=0.1),
        "pgd": partial(pgd, steps=10, rel_step_size=0.25, generator=seeded()),
        **{f"steps/{steps}": partial(pgd, steps=steps, rel_step_size=0.25, generator=seeded()) for steps in (1, 10, 40)},
    }
    accuracy = {name: {eps: percent(left(model, attack(model, x, y, eps), y))} for name, attack in attacks.items()}
    accuracy["pgd"] |= {more: percent(left(model, attacks["pgd"](model, x, y, more), y)) for more in (eps / 3, 2 * eps)}
    unbounded = pgd(model, x, y, 1.0, steps=30, rel_step_size=0.25, generator=seeded())
    accuracy |= {"clean": {0.0: percent(left(model, x, y))}, "unbounded": {1.0: percent(left(model, unbounded, y))}}
    transferred = {"other": percent(left(model, attacks["pgd"](other, x, y, eps), y))}
    measured = masking.masking_numbers(model, x, y, eps, batch_size=len(x), seed=0)
    return masking_checks(accuracy, eps, transferred, square_broken(model, x, y, eps), measured, len(x))


def warned(checks: list[Check]) -> set[str]:
    assert len(checks) == 11
    assert all(check.passed == (check.value <= check.threshold) for check in checks)
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("eps", [0.05, 0.2])
def test_an_adversarially_trained_model_passes(
    eps: float, robust: tuple[nn.Module, Tensor, Tensor], undefended: tuple[nn.Module, Tensor, Tensor]
) -> None:
    model, x, y = robust
    assert percent(left(model, pgd(model, x, y, EPS, steps=20, rel_step_size=0.25, generator=seeded()), y)) > 40
    assert warned(checked(model, undefended[0], x, y, eps)) == set()


@pytest.mark.parametrize("eps", [0.05, 0.2])
def test_an_undefended_model_raises_no_false_alarm(
    eps: float, robust: tuple[nn.Module, Tensor, Tensor], undefended: tuple[nn.Module, Tensor, Tensor]
) -> None:
    model, x, y = undefended
    assert warned(checked(model, robust[0], x, y, eps)) == set()


@pytest.mark.parametrize("eps", [0.02, 0.08, 0.15, 0.3])
def test_a_model_that_was_fitted_to_the_last_image_raises_no_false_alarm(
    eps: float, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    measured = masking.masking_numbers(trained, *digits, eps, batch_size=128, seed=0)
    checks = masking_checks({}, eps, {}, None, measured, 128)
    assert [check.name for check in checks] == [
        *("zero gradient", "flat gradient", "saturated logits", "random forward", "probabilities")
    ]
    assert all(check.passed for check in checks)


PLANTS: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "logits times 1000": (
        lambda model: Around(model, same, lambda logits: 1000 * logits),
        {"zero gradient", "saturated logits", "black box"},  # not Square: APGD-T breaks the images on DLR
    ),
    "quantised input": (
        lambda model: Around(model, lambda x: (x * 7).round() / 7, same),
        {"zero gradient", "flat gradient", "gradient free", "black box", "unbounded"},
    ),
    "noise in the forward pass": (lambda model: Around(model, lambda x: x + 0.1 * torch.randn_like(x), same), {"random forward"}),
    "steps on the logits": (
        lambda model: Around(model, same, lambda logits: (4 * logits).round()),
        {"zero gradient", "flat gradient", "gradient free", "black box", "unbounded"},
    ),
    "wrong gradient": (
        lambda model: Around(model, Backwards.apply, same),
        {"flat gradient", "black box", "unbounded"},
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted_defences_are_caught(name: str, undefended: tuple[nn.Module, Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    plant, expected = PLANTS[name]
    model, x, y = undefended
    assert expected <= warned(checked(plant(model), model, x[:100], y[:100], EPS))


def test_an_activation_without_gradient_is_caught(digits: tuple[Tensor, Tensor], trained: nn.Module) -> None:
    class Sign(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.sign()

    torch.manual_seed(0)
    x, y = digits
    first, last = nn.Linear(64, 400).double(), nn.Linear(400, 10, bias=False).double()
    with torch.no_grad():  # random projections of the mean-free images, and the least squares fit of the labels to their signs
        first.bias.copy_(-first.weight @ x.flatten(1).mean(0))
        hidden = first(x.flatten(1)).sign()
        last.weight.copy_(torch.linalg.lstsq(hidden, nn.functional.one_hot(y, 10).double(), driver="gelsd").solution.T)
    model = nn.Sequential(nn.Flatten(), first, Sign(), last)
    found = warned(checked(model, trained, x, y, EPS))
    assert {"zero gradient", "flat gradient", "gradient free", "black box", "unbounded"} <= found


def test_model_and_inputs_are_left_as_they_were(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0].clone(), digits[1].clone()
    trained.train()
    trained[-1].eval()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    modes = [module.training for module in trained.modules()]
    state = torch.get_rng_state()
    masking.masking_numbers(trained, x, y, EPS, batch_size=50, seed=0)
    assert [module.training for module in trained.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, digits[0])
    assert torch.equal(y, digits[1])


def test_zero_gradient_counts_images() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    x = torch.rand(8, 1, 2, 2) + 0.1
    x[:2] = 0.0  # the gradient of ReLU at 0 is 0
    x[2, 0, 0, 0] = 0.0  # one pixel alone
    assert masking.zero_gradient(model, x, torch.zeros(8, dtype=torch.int64)).tolist() == [True] * 2 + [False] * 6


def test_flat_gradient_sees_losses_that_float32_rounds_to_zero(undefended: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = undefended
    wrong_way = Around(model, Backwards.apply, lambda logits: 4 * logits)
    sure = nn.functional.cross_entropy(wrong_way(x), y, reduction="none") == 0
    assert sure.sum() > 20
    assert percent(masking.flat_gradient(wrong_way, x[sure], y[sure], 0.02, generator=seeded())) > 70


def test_flat_gradient_says_nothing_of_a_model_that_no_direction_changes(undefended: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = undefended
    nearly_constant = Around(model, lambda x: Backwards.apply(0.5 + 1e-5 * x), same)
    assert not masking.flat_gradient(nearly_constant, x, y, EPS, generator=seeded()).any()


def test_both_attacks_on_the_logits_start_at_one_point_and_batches_elsewhere(
    trained: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[tuple[Tensor, object]] = []

    def record(_: nn.Module, x: Tensor, *__: object, generator: Generator, objective: object, **___: object) -> Tensor:
        starts.append((torch.rand(3, generator=generator), objective))
        return x

    monkeypatch.setattr(masking, "pgd", record)
    masking.masking_numbers(trained, *digits, EPS, batch_size=64, seed=0)
    assert [objective for _, objective in starts] == 2 * [cross_entropy, masking.rescaled]
    assert torch.equal(starts[0][0], starts[1][0])
    assert torch.equal(starts[2][0], starts[3][0])
    assert not torch.equal(starts[0][0], starts[2][0])


def test_large_logits_are_scaled_and_small_ones_left_alone() -> None:
    model = nn.Flatten()
    x = torch.tensor([[10.0, -10.0], [3.0, 1.0]], dtype=torch.float64).view(2, 2, 1, 1)
    value, logits = masking.rescaled(model, x, torch.tensor([0, 1]))
    torch.testing.assert_close(value, torch.tensor([log1p(exp(-10)), log1p(exp(2))], dtype=torch.float64))
    torch.testing.assert_close(logits, x.flatten(1))


def test_random_forward_overlooks_rounding_and_sees_dropout_that_eval_does_not_stop() -> None:
    class Always(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) + self.scale * torch.randn(len(x), 64, dtype=x.dtype)

    x = torch.rand(10, 1, 8, 8)
    assert not masking.random_forward(Always(1e-7), x).any()
    assert masking.random_forward(Always(1e-2), x).all()
    assert not masking.random_forward(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), x).any()


def test_probabilities_are_told_from_their_logarithms_and_from_logits(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x = digits[0].float()
    trained = trained.float()
    shown = {"softmax": (True, False), "log_softmax": (False, True), "relu": (False, False)}
    for name, wanted in shown.items():
        model = Around(trained, same, nn.functional.relu if name == "relu" else partial(getattr(torch, name), dim=1))
        found = masking.as_probabilities(model, x)
        assert (bool(found[0].all()), bool(found[1].all())) == wanted
        assert (bool(found[0].any()), bool(found[1].any())) == wanted
    one_hot = Around(trained, same, lambda logits: nn.functional.one_hot(logits.argmax(1), 10).float())
    assert masking.as_probabilities(one_hot, x)[0].all()


def test_cross_entropy_of_log_probabilities_is_that_of_the_logits(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    logarithms = Around(trained, same, lambda logits: logits.log_softmax(1))
    for objective in (cross_entropy, dlr):
        ours, theirs = (gradient(model, x, y, objective)[0] for model in (logarithms, trained))
        torch.testing.assert_close(ours, theirs)


def test_numbers_are_percent_of_all_images_whatever_the_batches(digits: tuple[Tensor, Tensor], trained: nn.Module) -> None:
    x, y = digits
    together, apart = (masking.masking_numbers(trained, x, y, EPS, batch_size=size, seed=0) for size in (128, 50))
    names = [
        "images",
        "zero_gradient",
        "flat_gradient",
        "cross_entropy",
        "rescaled",
        "random_forward",
        "probabilities",
        "log_probabilities",
    ]
    assert list(together) == list(apart) == names
    assert together["images"] == 128
    shut = nn.Sequential(nn.Threshold(0.3, 0.0), trained)  # below it a pixel counts for nothing
    dark = torch.where(torch.arange(128)[:, None, None, None] < 70, 0.2 * x, x)
    for size in (128, 50):
        assert masking.masking_numbers(shut, dark, y, 0.05, batch_size=size, seed=0)["zero_gradient"] == 100 * 70 / 128
    x_adv = pgd(trained, x, y, EPS, steps=20, rel_step_size=0.1, generator=seeded(), objective=cross_entropy)
    assert together["cross_entropy"] == percent(left(trained, x_adv, y))
    assert together == masking.masking_numbers(trained, x, y, EPS, batch_size=128, seed=0)
