"""Basic iterative method (Kurakin et al., arXiv:1607.02533); pcl eq. 17."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import Done, Stop, no_progress, sign_steps


@torch.no_grad()
def bim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    stop: Stop = "never",
    generator: Generator | None = None,  # one signature for all attacks; this one draws nothing
    objective: Objective = cross_entropy,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """`steps` sign steps of rel_step_size * eps from x. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range,
    |x_adv - x| <= eps. stop, batch_size: as in `sign_steps`."""
    size = rel_step_size * eps
    return sign_steps(model, x, y, x, eps, objective, steps=steps, step_size=size, stop=stop, batch_size=batch_size, done=done)
