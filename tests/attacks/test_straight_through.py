"""Gradients through blocking parts, against those of the model without them; predictions are the model's own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.objective import cross_entropy, expected
from pipeline.attacks.steps import gradient
from pipeline.attacks.straight_through import StraightThrough


class Around(nn.Module):
    def __init__(self, model: nn.Module, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.before = model, before

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.before(x))


def in_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return (x * 4).round() / 4


def in_place(x: Tensor) -> Tensor:
    return (x * 4).round_() / 4


class Codec(nn.Module):
    """In numpy, of the image's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.round(x.detach().cpu().numpy() * 4) / 4).to(x.dtype)


BLOCKING: dict[str, Callable[[Tensor], Tensor]] = {
    "round": lambda x: (x * 4).round() / 4,
    "floor": lambda x: torch.floor(x * 4 + 0.5) / 4,
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "no_grad": in_no_grad,
    "in place": in_place,
    "codec": Codec(),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_the_gradient_is_that_of_the_rest_where_the_blocking_part_leads_to(
    name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:16], digits[1][:16]
    model = Around(trained, BLOCKING[name])
    assert not gradient(model, x, y, cross_entropy)[0].any()
    view = StraightThrough(model, x)
    assert view.blocked
    found, logits = gradient(view, x, y, cross_entropy)
    torch.testing.assert_close(logits, model(x).detach(), rtol=0, atol=0)
    wanted, _ = gradient(trained, model.before(x).detach(), y, cross_entropy)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        assert torch.equal(view(x), model(x))
    assert torch._C._len_torch_function_stack() == 0
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_blocking_parts_has_none(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    view = StraightThrough(trained, digits[0][:8])
    assert not view.blocked
    ours, theirs = (gradient(model, digits[0][:8], digits[1][:8], cross_entropy)[0] for model in (view, trained))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("model", [lambda x: x.flatten(1).argsort(1).double(), lambda x: x.flatten(1).detach()])
def test_no_way_to_the_image_is_a_gradient_of_zero(model: Callable[[Tensor], Tensor]) -> None:
    class Only(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x)

    x = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    grad, logits = gradient(Only(), x, torch.zeros(3, dtype=torch.int64), cross_entropy)
    assert torch.equal(grad, torch.zeros_like(x))
    assert logits.shape == (3, 4)


def test_a_gradient_that_is_not_a_number_is_none() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x).sqrt().flatten(1) * 0 + x.flatten(1)

    x = torch.rand(2, 1, 2, 2)
    assert gradient(Root(), x, torch.zeros(2, dtype=torch.int64), cross_entropy)[0].isfinite().all()


def test_the_expected_objective_is_the_mean_over_draws() -> None:
    values = iter([1.0, 2.0, 6.0])

    def drawn(_: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        factor = next(values)
        return factor * x.flatten(1).sum(1), factor * x.flatten(1)

    x = torch.rand(2, 1, 1, 3, dtype=torch.float64)
    value, logits = expected(drawn, 3)(nn.Identity(), x, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(value, 3 * x.flatten(1).sum(1))
    torch.testing.assert_close(logits, 3 * x.flatten(1))
