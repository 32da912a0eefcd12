"""Basic iterative method (Kurakin et al., arXiv:1607.02533); pcl eq. 17."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import ball, evaluating, gradient


@torch.no_grad()
def bim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    generator: Generator | None = None,  # one signature for all attacks; this one draws nothing
    objective: Objective = cross_entropy,
) -> Tensor:
    """`steps` sign steps of rel_step_size * eps from x. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range,
    |x_adv - x| <= eps."""
    low, high = ball(x, eps)
    x_adv = x
    with evaluating(model):
        for _ in range(steps):
            x_adv = (x_adv + rel_step_size * eps * gradient(model, x_adv, y, objective)[0].sign()).clamp(low, high)
    return x_adv
