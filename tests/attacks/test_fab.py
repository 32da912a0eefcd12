"""FAB-T against scipy's solvers, the closed form of linear models and foolbox's minimum-norm attacks."""

from functools import partial

import foolbox
import numpy as np
import pytest
import torch
from conftest import check_untouched
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from pipeline.attacks.fab import fab, project_onto_plane
from pipeline.attacks.objective import Aimed, targeted_margin

NORMS = {"linf": 0.1, "l2": 0.6}  # and an eps in between, where robust accuracies are neither 0 nor 100
NEAREST = partial(fab, steps=15, targets=9, restarts=1, stop="never")


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x).argmax(1) == y


def size(delta: Tensor, norm: str) -> Tensor:
    return delta.flatten(1).norm(dim=1, p=float(norm[1:]))


def planes(pixels: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, some black and white, weights, some zero, and gaps, some too large for the image range."""
    generator = torch.Generator().manual_seed(pixels)
    x, w = torch.rand(2, count, 1, 1, pixels, generator=generator, dtype=torch.float64)
    w, gap = 2 * w - 1, 3 * torch.rand(count, generator=generator, dtype=torch.float64) - 1.5
    x[::5], w[::3, ..., 0], gap[::11] = x[::5].round(), 0.0, 0.0
    return x, w, gap


def shortest(x: np.ndarray, w: np.ndarray, gap: float, norm: str) -> float | None:
    """By scipy; None where the plane does not reach into the image range."""
    pixels, eye = len(x), np.eye(len(x))
    room = [(-value, 1 - value) for value in x]
    within = np.block([[eye, -np.ones((pixels, 1))], [-eye, -np.ones((pixels, 1))]])  # |delta_i| <= bound
    bounded = linprog(
        [0] * pixels + [1], A_ub=within, b_ub=[0] * 2 * pixels, A_eq=[[*w, 0]], b_eq=[-gap], bounds=[*room, (0, None)]
    )
    if not bounded.success or norm == "linf":
        return bounded.fun
    plane = {"type": "eq", "fun": lambda delta: gap + w @ delta, "jac": lambda _: w}
    options = {"ftol": 1e-14, "maxiter": 500}
    least = minimize(lambda delta: delta @ delta, bounded.x[:-1], bounds=room, constraints=plane, method="SLSQP", options=options)
    return float(np.sqrt(least.fun))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pixels", [1, 2, 7])
def test_projection_is_as_short_as_scipy_finds(norm: str, pixels: int) -> None:
    x, w, gap = planes(pixels, 40)
    delta = project_onto_plane(x, w, gap, norm)
    assert (x + delta).min() >= -1e-12
    assert (x + delta).max() <= 1 + 1e-12
    left = gap + (w * delta).sum((1, 2, 3))
    reached = 0
    for i in range(40):
        expected = shortest(x[i].flatten().numpy(), w[i].flatten().numpy(), gap[i].item(), norm)
        if expected is not None:
            reached += 1
            assert abs(left[i]) < 1e-9
            assert size(delta, norm)[i].item() == pytest.approx(expected, abs=1e-6)
        else:
            furthest = torch.where(-gap[i] * w[i] > 0, 1 - x[i], -x[i]) * (w[i] != 0)
            torch.testing.assert_close(delta[i], furthest)
    assert 5 < reached < 40


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_finite_whatever_the_scale_of_the_weights(norm: str) -> None:
    x, w, gap = (value.float() for value in planes(7, 40))
    delta = project_onto_plane(x, w, gap, norm)
    for scale in (1e-30, 1e30):
        torch.testing.assert_close(project_onto_plane(x, scale * w, scale * gap, norm), delta, atol=1e-5, rtol=1e-4)
    assert torch.equal(project_onto_plane(x, 0 * w, gap, norm), 0 * x)  # some of the gaps are 0 as well
    w[..., 1] = 1e-42
    assert project_onto_plane(x, w, gap, norm).isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_point_of_a_linear_model_is_the_closed_form(norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).double().requires_grad_(False)
    model[1].weight.normal_(generator=generator)
    x = torch.empty(100, 1, 4, 4, dtype=torch.float64).uniform_(0.4, 0.6, generator=generator)  # no pixel comes near its ends
    y = model(x).argmax(1)
    gaps = model(x).gather(1, y[:, None]) - model(x)
    differences = model[1].weight[y][:, None] - model[1].weight  # (B, K, 16)
    needed = (gaps / differences.norm(dim=2, p=1 if norm == "linf" else 2)).nan_to_num(torch.inf).amin(1)  # nan for y itself
    x_adv = NEAREST(model, x, y, 10.0, norm=norm)
    assert not right(model, x_adv, y).any()
    # The first step ends at 1.05 of the way, beta takes it back to 0.945, and from there the plane is 0.055 away: alpha = 0.055 /
    # 1.055, and (1 - alpha) * (0.945 + 1.05 * 0.055) + alpha * 1.05 = 1.0052; no later step comes nearer.
    ratio = size(x_adv - x, norm) / needed
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1.0052), atol=1e-4, rtol=0)
    eps = needed.median().item()
    ends = size(fab(model, x, y, eps, norm=norm, steps=30, targets=4, restarts=1) - x, norm)
    assert torch.equal(ends > 0, ratio * needed <= eps)


@pytest.mark.parametrize("norm", NORMS)
def test_nearer_than_the_minimum_norm_attacks_of_foolbox(norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    others = {
        "linf": [foolbox.attacks.LinfDeepFoolAttack(steps=30), foolbox.attacks.LInfFMNAttack(steps=100)],
        "l2": [foolbox.attacks.L2DeepFoolAttack(steps=30), foolbox.attacks.L2FMNAttack(steps=100), foolbox.attacks.DDNAttack()],
    }
    ours = NEAREST(trained, x, y, 10.0, norm=norm)
    assert not right(trained, ours, y).any()
    for attack in others[norm]:
        theirs, _, found = attack(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), x, y, epsilons=None)
        assert found.sum() > 100
        assert size(ours - x, norm)[found].median() <= 1.05 * size(theirs - x, norm)[found].median(), attack


@pytest.mark.parametrize("norm", NORMS)
def test_stopping_at_eps_breaks_the_same_images(norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0], digits[1].clone()
    y[:10] = (y[:10] + 1) % 10  # wrong from the start
    sizes: list[int] = []
    handle = trained.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    early = fab(trained, x, y, NORMS[norm], norm=norm, steps=15, targets=9, restarts=1, batch_size=30)
    handle.remove()
    assert sizes[:5] == [30, 30, 30, 30, 8]  # all images once
    assert sorted(sizes[5:], reverse=True) == sizes[5:]  # others take the place of broken ones, until there are no others
    standing = int(right(trained, early, y).sum())
    assert standing * 2 * 15 * 9 <= sum(sizes[5:]) < len(x) * 2 * 15 * 9
    late = NEAREST(trained, x, y, NORMS[norm], norm=norm)
    far = NEAREST(trained, x, y, 10.0, norm=norm)
    broken = ~right(trained, early, y)
    assert 10 + 10 < broken.sum() < 128 - 10
    assert torch.equal(broken, ~right(trained, late, y))
    assert (size(late - x, norm) <= size(early - x, norm) + 1e-12)[broken].all()
    for x_adv in (early, late):
        assert torch.equal(x_adv[:10], x[:10])
        assert torch.equal(x_adv[~broken], x[~broken])
        assert size(x_adv - x, norm).max() <= NORMS[norm]
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
    torch.testing.assert_close(far[broken], late[broken])


def test_restarts_come_from_the_generator_and_bring_nearer(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    attack = partial(fab, trained, *digits, 1.0, norm="l2", steps=5, targets=2, stop="never")
    once = attack(restarts=1)
    again, same, other = (attack(restarts=3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    broken = ~right(trained, once, digits[1])
    assert (size(again - digits[0], "l2") <= size(once - digits[0], "l2"))[broken].all()
    assert torch.equal(again, same)
    assert not torch.equal(again, other)


@pytest.mark.parametrize("norm", NORMS)
def test_an_objective_with_the_same_planes_finds_the_same_points(
    norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    def tripled(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = targeted_margin(model, x, y, target)
        return 3 * value, logits

    attack = partial(fab, trained, *digits, NORMS[norm], norm=norm, steps=5, targets=3, restarts=1)
    torch.testing.assert_close(attack(objective=tripled), attack())


def test_steps_to_the_planes_of_the_objective_until_the_model_is_wrong() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).double().requires_grad_(False)
    model[1].weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    model[1].bias.copy_(torch.tensor([0.0, -0.7]))  # z_1 - z_0 is the first pixel less 0.7
    x, y = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64), torch.tensor([0])

    def other(offset: float) -> Aimed:
        def objective(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, 0, 0].sum(1) - 1 - offset, model(x)  # both pixels weigh the same

        return objective

    attack = partial(fab, model, x, y, 0.4, norm="l2", steps=10, targets=1, restarts=1)
    assert attack().flatten().tolist() == pytest.approx([0.5 + 1.05 * 0.2, 0.5])
    # along (1, 1) to where the pixels sum to 1.45, and 1.05 times as far; that is past 0.7 in the first
    assert attack(objective=other(0.45)).flatten().tolist() == pytest.approx([0.5 + 1.05 * 0.225] * 2)
    # the objective takes the target's side from the start: where it does so, the model's own plane is stepped to
    torch.testing.assert_close(attack(objective=other(-0.3)), attack())


def test_model_and_inputs_are_left_as_they_were(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    check_untouched(lambda m, x, y: fab(m, x, y, 0.3, norm="l2", steps=3, targets=2, restarts=2), trained, digits)


@pytest.mark.parametrize("norm", NORMS)
def test_a_model_without_gradient_is_left_alone(norm: str, digits: tuple[Tensor, Tensor]) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).float()
    nn.init.zeros_(blind[1].weight)
    x = digits[0].float()
    y = blind(x).argmax(1)
    assert torch.equal(fab(blind, x, y, 0.3, norm=norm, steps=3, targets=9, restarts=2), x)


def test_a_model_that_is_wrong_already_is_asked_once(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    sizes: list[int] = []
    trained.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    wrong = (digits[1] + 1) % 10
    assert torch.equal(fab(trained, digits[0], wrong, 0.3, norm="l2", steps=3, targets=2, restarts=2), digits[0])
    assert sizes == [128]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"eps": -0.1}, "eps must be at least 0"),
        ({"steps": 0}, "at least 1"),
        ({"restarts": 0}, "at least 1"),
        ({"targets": 0}, "at least 1"),
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
        ({"stop": "batch"}, "stop must be one of never, sample, got 'batch'"),
    ],
    ids=lambda bad: next(iter(bad)) if isinstance(bad, dict) else "",
)
def test_bad_arguments_are_refused(bad: dict[str, float], message: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    arguments = {"eps": 0.1, "norm": "linf", "steps": 1, "restarts": 1, "targets": 1} | bad
    with pytest.raises(ValueError, match=message):
        fab(trained, *digits, **arguments)
