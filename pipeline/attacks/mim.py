"""Momentum iterative method (Dong et al., CVPR 2018); pcl eq. 18-19. Also the noise measurement of hcp table 3."""

from typing import Annotated, Literal, get_args

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import ball, evaluating, gradient

Stop = Literal["never", "sample", "batch"]


@torch.no_grad()
def mim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    decay: Annotated[float, Ge(0)],
    stop: Stop = "never",
    generator: Generator | None = None,  # one signature for all attacks; this one draws nothing
    objective: Objective = cross_entropy,
) -> Tensor:
    """`steps` sign steps of rel_step_size * eps along m = decay * m + gradient / |gradient|_1. x: (B, C, H, W) in [0, 1], y: (B,)
    -> x_adv, same shape and range, |x_adv - x| <= eps.

    stop: `sample` leaves an image alone once it is misclassified (none of its work is done any more), `batch` ends when all of
    them are misclassified at once (the authors' noise measurement), `never` makes every step.
    """
    if stop not in get_args(Stop):
        raise ValueError(f"stop must be one of {', '.join(get_args(Stop))}, got {stop!r}")
    low, high = ball(x, eps)
    x_adv, momentum = x.clone(), torch.zeros_like(x)
    at_work = torch.arange(len(x), device=x.device)
    with evaluating(model):
        for _ in range(steps):
            grad, logits = gradient(model, x_adv[at_work], y[at_work], objective)
            right = logits.argmax(1) == y[at_work]  # (at work,)
            if stop == "sample":
                grad, at_work = grad[right], at_work[right]
            if stop != "never" and not right.any():
                break
            norm = grad.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)  # an all-zero gradient stays 0
            momentum[at_work] = decay * momentum[at_work] + grad / norm
            step = rel_step_size * eps * momentum[at_work].sign()
            x_adv[at_work] = (x_adv[at_work] + step).clamp(low[at_work], high[at_work])
    return x_adv
