"""Projected gradient descent (Madry et al., arXiv:1706.06083), section 2.1; pcl eq. 22-23."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import Done, Stop, ball, no_progress, sign_steps

Start = Literal["uniform", "gaussian"]


@torch.no_grad()
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    stop: Stop = "never",
    generator: Generator | None = None,
    objective: Objective = cross_entropy,
    batch_size: int | None = None,
    done: Done = no_progress,
    start: Start | Tensor = "uniform",
) -> Tensor:
    """BIM from `random_start` or a given start. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range,
    |x_adv - x| <= eps. stop, batch_size: as in `sign_steps`."""
    low, high = ball(x, eps)
    at = start if isinstance(start, Tensor) else random_start(x, eps, start, generator)
    at, size = at.clamp(low, high), rel_step_size * eps
    return sign_steps(model, x, y, at, eps, objective, steps=steps, step_size=size, stop=stop, batch_size=batch_size, done=done)


def random_start(x: Tensor, eps: float, start: Start, generator: Generator | None) -> Tensor:
    """Drawn from `generator` (on x's device): uniform in the ball of each image, or x + 0.001 N(0, 1) as in the code of
    arXiv:1901.08573. (B, C, H, W), perhaps outside of the image range."""
    if start == "uniform":
        return x + torch.empty_like(x).uniform_(-eps, eps, generator=generator)
    return x + torch.empty_like(x).normal_(0, 0.001, generator=generator)
