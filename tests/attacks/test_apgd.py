"""APGD against ART, the closed form of linear models and algorithm 1 replayed on one pixel."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from conftest import check_untouched
from torch import Tensor, nn

from pipeline.attacks.apgd import apgd, apgd_targeted
from pipeline.attacks.objective import cross_entropy, dlr, margin, targeted_margin

BOTH = {
    "apgd": partial(apgd, steps=20, restarts=1),
    "apgd_targeted": partial(apgd_targeted, steps=10, restarts=1, targets=9),
}
NORMS = {"linf": 0.1, "l2": 0.6}  # and an eps in between, where robust accuracies are neither 0 nor 100
LOSSES = {"cross_entropy": cross_entropy, "difference_logits_ratio": dlr}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x).argmax(1) == y


def size(delta: Tensor, norm: str) -> Tensor:
    return delta.flatten(1).norm(dim=1, p=float(norm[1:]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_robust_accuracy_is_at_most_that_of_art(norm: str, loss: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model, x, y = nn.Sequential(trained).float(), digits[0].float(), digits[1]  # ART computes in float32
    eps = NORMS[norm]
    ours = apgd(model, x, y, eps, norm=norm, steps=20, restarts=2, generator=seeded(), objective=LOSSES[loss])
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0.0, 1.0))
    options = {"norm": float(norm[1:]), "eps": eps, "eps_step": 2 * eps, "loss_type": loss, "verbose": False}
    np.random.seed(0)  # noqa: NPY002, ART draws from it
    attack = AutoProjectedGradientDescent(classifier, max_iter=20, nb_random_init=2, batch_size=128, **options)
    theirs = torch.from_numpy(attack.generate(x.numpy(), nn.functional.one_hot(y, 10).numpy()))
    robust = [100 * right(model.eval(), x_adv, y).double().mean().item() for x_adv in (ours, theirs)]
    assert 5 < robust[0] <= robust[1] + 0.5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BOTH)
def test_targeted_and_untargeted_break_what_can_be_broken_in_a_linear_model(norm: str, name: str) -> None:
    generator = seeded()
    classes = 2 if name == "apgd" else 5  # with more, cross entropy does not always lead to the nearest boundary
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double().requires_grad_(False)
    model[1].weight.normal_(generator=generator)
    x = torch.empty(300, 1, 4, 4, dtype=torch.float64).uniform_(0.4, 0.6, generator=generator)  # no pixel comes near its ends
    y = model(x).argmax(1)
    gaps = model(x).gather(1, y[:, None]) - model(x)
    differences = model[1].weight[y][:, None] - model[1].weight  # (B, K, 16)
    needed = gaps / differences.norm(dim=2, p=1 if norm == "linf" else 2)  # nan for y itself
    needed = needed.nan_to_num(torch.inf).amin(1)
    eps = needed.sort().values[145:155].mean().item()
    close = (needed / eps - 1).abs() < 1e-3
    assert close.sum() <= 3
    x_adv = BOTH[name](model, x, y, eps, norm=norm, generator=seeded(1))
    assert torch.equal(right(model, x_adv, y)[~close], needed[~close] > eps)


def pattern(name: str) -> tuple[list[float], list[int]]:
    """Values of the objective at the 101 points of 100 steps, and after which checkpoints the step size is halved."""
    rises = {
        "rising": [1.0] * 100,
        "falling": [-1.0] * 100,
        "16_of_22_rise": [1.0] * 13 + [-1.0] * 6 + [1.0] * 81,
        "17_of_22_rise": [1.0] * 13 + [-1.0] * 5 + [1.0] * 82,
        "12_of_16_rise": [1.0] * 53 + [-1.0] * 4 + [1.0] * 43,
        "up_from_the_last_but_not_from_the_highest": [1.0] * 13 + [-1.0] * 9 + [1.0] + [-1.0] * 4 + [1.0] * 73,
        "rising_below_the_highest": [1.0] * 22 + [-1000.0] + [1.0] * 77,
    }[name]
    halved = {
        "falling": [22, 41, 57, 70, 80, 87, 93, 99],
        "16_of_22_rise": [22],
        "up_from_the_last_but_not_from_the_highest": [22, 41],  # 14 of 19, as the path goes on from the highest
        "rising_below_the_highest": [41, 70, 87, 99],  # condition 2 holds where the size was not halved at the checkpoint before
    }
    return np.cumsum([0.0, *rises]).tolist(), halved.get(name, [])


def replay(start: float, values: Sequence[float], halved: Sequence[int], eps: float) -> list[float]:
    """Algorithm 1 on one pixel at 0.5, where the gradient is 1 at even points and -1 at odd ones."""
    points, path, size, highest = [start], [start], 2 * eps, 0  # the path jumps to the highest point where the size is halved
    clip = partial(np.clip, a_min=0.5 - eps, a_max=0.5 + eps)
    for k in range(100):
        highest = k if values[k] > values[highest] else highest
        sign = 1 if k % 2 == 0 else -1
        if k in halved:
            path[k], size, sign = points[highest], size / 2, 1 if highest % 2 == 0 else -1
        z = clip(path[k] + size * sign)
        points.append(z if k == 0 else clip(path[k] + 0.75 * (z - path[k]) + 0.25 * (path[k] - path[k - 1])))
        path.append(points[-1])
    return points


@pytest.mark.parametrize(
    "name",
    [
        *("rising", "falling", "16_of_22_rise", "17_of_22_rise", "12_of_16_rise"),
        *("up_from_the_last_but_not_from_the_highest", "rising_below_the_highest"),
    ],
)
@pytest.mark.parametrize("norm", NORMS)
def test_step_size_is_halved_at_the_checkpoints_where_it_should(norm: str, name: str) -> None:
    values, halved = pattern(name)
    seen: list[float] = []

    def scripted(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not x.requires_grad:  # whether the clean image is right
            return x.sum((1, 2, 3)), model(x)
        change = (x - x.detach()).sum((1, 2, 3)) * (1 if len(seen) % 2 == 0 else -1)
        seen.append(x.item())
        return values[len(seen) - 1] + change, model(x)

    def never_wrong(x: Tensor) -> Tensor:
        return torch.eye(2, dtype=x.dtype)[torch.zeros(len(x), dtype=torch.int64)] + 0 * x.flatten(1)

    model = nn.Module()
    model.forward = never_wrong
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.tensor([0])
    x_adv = apgd(model, x, y, 0.3, norm=norm, steps=100, restarts=1, generator=seeded(2), objective=scripted)
    expected = replay(seen[0], values, halved, 0.3)
    assert seen == pytest.approx(expected, abs=1e-12)
    assert x_adv.item() == pytest.approx(expected[int(np.argmax(values))], abs=1e-12)


def test_first_wrong_point_is_returned_and_else_the_highest(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    for i in range(0, 128, 8):
        seen: list[tuple[float, bool, Tensor]] = []

        def noted(model: nn.Module, x: Tensor, y: Tensor, seen: list[tuple[float, bool, Tensor]] = seen) -> tuple[Tensor, Tensor]:
            value, logits = cross_entropy(model, x, y)
            if x.requires_grad:  # else it is asked whether the clean image is right
                seen.append((value.item(), (logits.argmax(1) != y).item(), x.detach().clone()))
            return value, logits

        x, y = digits[0][i : i + 1], digits[1][i : i + 1]
        x_adv = apgd(trained, x, y, 0.1, norm="linf", steps=10, restarts=2, generator=seeded(), objective=noted)
        if not right(trained, x, y).item():
            assert torch.equal(x_adv, x)
            assert not seen
            continue
        assert [wrong for _, wrong, _ in seen[:-1]] == [False] * (len(seen) - 1)
        assert torch.equal(x_adv, seen[-1][2] if seen[-1][1] else max(seen, key=lambda point: point[0])[2])


def test_scaled_logits_hide_nothing_from_dlr(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(trained).float()

        def forward(self, x: Tensor) -> Tensor:
            return 1000 * self.model(x)

    x, y = digits[0].float(), digits[1]
    attack = partial(apgd, norm="linf", steps=20, restarts=1)
    scaled = Scaled()
    robust = {
        name: right(scaled.model, attack(model, x, y, 0.08, objective=objective, generator=seeded()), y).sum().item()
        for name, model, objective in (("plain", scaled.model, dlr), ("scaled", scaled, dlr), ("ce", scaled, cross_entropy))
    }
    targeted = apgd_targeted(scaled, x, y, 0.08, norm="linf", steps=20, targets=9, restarts=1, generator=seeded())
    assert abs(robust["scaled"] - robust["plain"]) <= 1
    assert right(scaled, targeted, y).sum() <= robust["scaled"]
    assert robust["ce"] >= robust["scaled"] + 10  # that is what hides without it


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_scale_of_the_objective_changes_nothing(scale: float, norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    def scaled(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = margin(model, x, y)
        return scale * value, logits

    model, x, y = nn.Sequential(trained).float(), digits[0].float(), digits[1]  # in float32 the gradient's squares are 0 or inf
    attack = partial(apgd, model, x, y, NORMS[norm], norm=norm, steps=3, restarts=1)
    torch.testing.assert_close(
        attack(objective=scaled, generator=seeded()), attack(objective=margin, generator=seeded()), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.5, 5.0])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BOTH)
def test_result_stays_in_the_ball_and_the_image_range(
    name: str, norm: str, eps: float, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:40], digits[1][:40]
    x_adv = BOTH[name](trained, x, y, eps, norm=norm, generator=seeded())
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert size(x_adv - x, norm).max() <= eps + 1e-12
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert eps < 5 or not right(trained, x_adv, y).any()  # nothing survives without a bound


@pytest.mark.parametrize("name", BOTH)
def test_model_and_inputs_are_left_as_they_were(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    check_untouched(lambda m, x, y: BOTH[name](m, x, y, 0.05, norm="l2", generator=seeded()), trained, digits)


@pytest.mark.parametrize("name", BOTH)
def test_broken_images_leave_the_batch_and_change_no_other(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0], digits[1].clone()
    y[60:70] = (y[60:70] + 1) % 10  # wrong from the start
    sizes: list[int] = []
    handle = trained.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    attack = partial(BOTH[name], norm="linf", restarts=2, batch_size=30)
    together = attack(trained, x, y, 0.1, generator=seeded())
    handle.remove()
    standing = right(trained, together, y).sum().item()
    asked, full = sizes[:5], sizes[5:]
    assert asked == [30, 30, 30, 30, 8]  # all images once
    assert torch.equal(together[60:70], x[60:70])
    assert sorted(full, reverse=True) == full  # others take the place of broken ones, until there are no others
    assert full.count(30) > 0.8 * len(full)
    each = {"apgd": 21 * 2, "apgd_targeted": 11 * 2 * 9}[name]  # forwards of an image that stands
    assert standing * each <= sum(full) < len(x) * each
    others = x.clone()
    others[:64] = x[64:]
    torch.testing.assert_close(attack(trained, others, y, 0.1, generator=seeded())[64:], together[64:])


def test_more_restarts_and_targets_break_no_less(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    def broken(attack: Callable[..., Tensor], **options: int) -> Tensor:
        x_adv = attack(trained, *digits, 0.6, norm="l2", steps=1, generator=seeded(), **options)
        return ~right(trained, x_adv, digits[1])

    once, often = (broken(apgd, restarts=restarts) for restarts in (1, 20))
    assert (once <= often).all()
    assert often.sum() > once.sum()
    one, all_nine, more = (broken(apgd_targeted, restarts=1, targets=targets) for targets in (1, 9, 50))
    assert (one <= all_nine).all()
    assert all_nine.sum() > one.sum()
    assert torch.equal(all_nine, more)  # there are no more than 9


@pytest.mark.parametrize("norm", NORMS)
def test_starts_on_the_sphere_from_the_generator(norm: str, digits: tuple[Tensor, Tensor]) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    nn.init.zeros_(blind[1].weight)  # no gradient, no step: what is left is the start
    x = torch.full((200, 1, 8, 8), 0.5, dtype=torch.float64)
    y = blind(x).argmax(1)
    starts = [apgd(blind, x, y, 0.3, norm=norm, steps=1, restarts=1, generator=seeded(seed)) - x for seed in (1, 1, 2)]
    torch.testing.assert_close(size(starts[0], norm), torch.full((200,), 0.3, dtype=torch.float64))
    assert starts[0].mean().abs() < 0.01
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"eps": -0.1}, "eps must be at least 0"),
        ({"steps": 0}, "at least 1"),
        ({"restarts": 0}, "at least 1"),
        ({"targets": 0}, "at least 1"),
        ({"rho": 1.0}, "rho between 0 and 1"),
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
    ],
    ids=lambda bad: next(iter(bad)) if isinstance(bad, dict) else "",
)
def test_bad_arguments_are_refused(bad: dict[str, float], message: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    arguments = {"eps": 0.1, "norm": "linf", "steps": 1, "restarts": 1} | bad
    with pytest.raises(ValueError, match=message):
        (apgd_targeted if "targets" in bad else apgd)(trained, *digits, **arguments)


def test_few_classes_are_refused_by_the_targeted_attack_only(digits: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    x, y = digits[0], model(digits[0]).argmax(1)
    assert not right(model, apgd(model, x, y, 1.0, norm="linf", steps=10, restarts=1, objective=margin), y).all()
    attack = partial(apgd_targeted, steps=10, targets=9, restarts=1)
    with pytest.raises(ValueError, match="targeted_dlr needs at least 4 classes, got 3"):
        attack(model, x, y, 1.0)
    assert not right(model, attack(model, x, y, 1.0, objective=targeted_margin), y).all()


def test_targeted_attack_leads_to_the_best_wrong_class_first(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    told: list[Tensor] = []

    def noted(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if x.requires_grad:  # else it is asked whether the clean image is right
            told.append(target)
        return targeted_margin(model, x, y, target)

    x, y = digits
    x, y = x[right(trained, x, y)], y[right(trained, x, y)]
    apgd_targeted(trained, x, y, 1e-4, steps=1, targets=2, restarts=1, objective=noted)
    second, third = trained(x).topk(3).indices[:, 1:].unbind(1)
    assert torch.equal(told[0], second)
    assert torch.equal(told[-1], third)  # none is broken at that eps
    x_adv = apgd_targeted(trained, x, y, 0.1, steps=10, targets=9, restarts=1, objective=targeted_margin, generator=seeded())
    dlr_adv = apgd_targeted(trained, x, y, 0.1, steps=10, targets=9, restarts=1, generator=seeded())
    assert abs((right(trained, x_adv, y).sum() - right(trained, dlr_adv, y).sum()).item()) <= 2  # of an honest model


def test_norm_is_linf_unless_said(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    for attack in BOTH.values():
        assert torch.equal(*(attack(trained, *digits, 0.1, generator=seeded(), **norm) for norm in ({}, {"norm": "linf"})))
