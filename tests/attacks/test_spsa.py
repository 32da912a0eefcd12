"""SPSA, with the directions of NES too, against closed forms, and what they promise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import check_untouched
from torch import Generator, Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.attacks.spsa import Directions, estimated_gradient, spsa

EPS = 0.15
BUDGET = {"queries": 1000, "steps": 20, "rel_step_size": 0.3, "rel_radius": 0.5}
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "spsa": partial(spsa, **BUDGET),
    "nes": partial(spsa, **BUDGET, directions="normal"),
}


def seeded() -> Generator:
    return Generator().manual_seed(0)


class Value:
    """An objective f(x) that needs no model."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self.f = f

    def __call__(self, _: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.f(x), x.flatten(1)


def estimate(f: Callable[[Tensor], Tensor], x: Tensor, pairs: int, directions: Directions = "signs", radius: float = 0.1) -> Tensor:
    y = torch.zeros(len(x), dtype=torch.int64)
    return estimated_gradient(nn.Identity(), x, y, Value(f), radius=radius, pairs=pairs, directions=directions, generator=seeded())


def test_one_sign_gives_the_gradient_of_a_parabola_exactly_whatever_the_radius() -> None:
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64).view(3, 1, 1, 1)
    for radius in (0.01, 0.5):
        torch.testing.assert_close(estimate(lambda x: 3 * x.flatten(1).sum(1) ** 2, x, 1, radius=radius), 6 * x)


def test_a_linear_objective_gives_w_projected_on_the_directions_drawn() -> None:
    w = torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 1, 2, 3)
    x = torch.rand(2, 1, 2, 3, dtype=torch.float64)
    generator = seeded()
    draws = [torch.empty_like(x).normal_(generator=generator) for _ in range(5)]
    wanted = torch.stack([(u * w).sum((1, 2, 3), keepdim=True) * u for u in draws]).mean(0)
    torch.testing.assert_close(estimate(lambda x: (x * w).sum((1, 2, 3)), x, 5, "normal"), wanted)


@pytest.mark.parametrize("directions", ["normal", "signs"])
def test_many_directions_find_the_gradient(directions: Directions) -> None:
    w = torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 1, 2, 3)
    found = estimate(lambda x: (x * w).sum((1, 2, 3)), torch.rand(1, 1, 2, 3, dtype=torch.float64), 20000, directions)
    torch.testing.assert_close(found, w, rtol=0, atol=0.05)


def test_of_a_step_it_is_the_gradient_of_the_step_smoothed_by_noise() -> None:
    """f = 1 where x > 0, smoothed by N(0, r^2): its gradient at 0 is the density there, 1 / (r sqrt(2 pi))."""
    found = estimate(
        lambda x: (x.flatten(1).sum(1) > 0).double(), torch.zeros(1, 1, 1, 1, dtype=torch.float64), 20000, "normal", 0.5
    )
    assert found.item() == pytest.approx(1 / (0.5 * (2 * torch.pi) ** 0.5), rel=0.03)


@pytest.mark.parametrize("name", ATTACKS)
def test_they_break_a_model_without_gradient_nearly_as_pgd_breaks_it_with(
    name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits

    class Blocked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return trained(x.detach())

    x_adv = ATTACKS[name](Blocked(), x, y, EPS, generator=seeded())
    assert (x_adv - x).abs().max() <= EPS + 1e-6
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (trained(x).argmax(1) == y).double().mean() > 0.95
    with_gradient = pgd(trained, x, y, EPS, steps=20, rel_step_size=0.25, generator=seeded())
    left, least = ((trained(images).argmax(1) == y).double().mean() for images in (x_adv, with_gradient))
    assert least < 0.35
    assert left < least + 0.2


@pytest.mark.parametrize("name", ATTACKS)
def test_model_and_inputs_are_left_as_they_were_and_the_generator_decides(
    name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    attack = partial(ATTACKS[name], queries=4, steps=2)
    check_untouched(lambda model, x, y: attack(model, x, y, EPS, generator=seeded()), trained, digits)
    one, other = (attack(trained, *digits, EPS, generator=seeded(), batch_size=128) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", [{"queries": 1}, {"steps": 0}, {"directions": "none"}, {"eps": -0.1}])
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    x, y = torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(
        ValueError, match="eps must be at least 0, queries at least 2, steps at least 1 and directions signs or normal"
    ):
        spsa(nn.Flatten(), x, y, **{"eps": 0.1, **BUDGET, **wrong})
