"""Fast gradient sign method (Goodfellow et al., arXiv:1412.6572); pcl eq. 16."""

import torch
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.steps import Done, ball, evaluating, gradient, in_batches, no_progress


@torch.no_grad()
def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    generator: Generator | None = None,  # one signature for all attacks; this one draws nothing
    objective: Objective = cross_entropy,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """x + eps * sign(gradient). x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range, |x_adv - x| <= eps.
    batch_size: images at a time, all if None."""

    def attack(x: Tensor, y: Tensor) -> Tensor:
        low, high = ball(x, eps)
        return (x + eps * gradient(model, x, y, objective)[0].sign()).clamp(low, high)

    with evaluating(model):
        return in_batches(attack, x, y, batch_size, done)
