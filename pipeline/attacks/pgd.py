"""Projected gradient descent (Madry et al., arXiv:1706.06083), section 2.1; pcl eq. 22-23."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import ball, evaluating, gradient


@torch.no_grad()
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    generator: Generator | None = None,
    objective: Objective = cross_entropy,
    start: Literal["uniform", "gaussian"] = "uniform",
) -> Tensor:
    """BIM from a random point of the ball, drawn from `generator` (on x's device): uniform in it, or x + 0.001 N(0, 1) as in the
    code of arXiv:1901.08573. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range, |x_adv - x| <= eps."""
    low, high = ball(x, eps)
    if start == "uniform":
        noise = torch.empty_like(x).uniform_(-eps, eps, generator=generator)
    else:
        noise = torch.empty_like(x).normal_(0, 0.001, generator=generator)
    x_adv = (x + noise).clamp(low, high)
    with evaluating(model):
        for _ in range(steps):
            x_adv = (x_adv + rel_step_size * eps * gradient(model, x_adv, y, objective)[0].sign()).clamp(low, high)
    return x_adv
