"""An attack along a gradient that is estimated from forwards alone, for a model without a usable gradient:
SPSA (Uesato et al., arXiv:1802.05666, algorithm 1), or the same with the directions of NES (Ilyas et al., arXiv:1804.08598)."""

from typing import Annotated, Literal, get_args

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, margin
from pipeline.attacks.steps import Done, ball, evaluating, in_batches, no_progress

Directions = Literal["signs", "normal"]

BETA1, BETA2, SMALL = 0.9, 0.999, 1e-8  # of Adam


@torch.no_grad()
def spsa(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    queries: Annotated[int, Ge(2)],
    steps: Annotated[int, Ge(1)],
    rel_step_size: Annotated[float, Gt(0)],
    rel_radius: Annotated[float, Gt(0)],
    directions: Directions = "signs",
    generator: Generator | None = None,
    objective: Objective = margin,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """`steps` steps of Adam from x along `estimated_gradient`, with the rate rel_step_size * eps, each cut to the ball; early
    stopping. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range, |x_adv - x| <= eps. Nothing is differentiated.

    queries: forwards an image for the estimates, at least two a step. rel_radius: how far from the point the model is asked, in
    parts of eps; it should be beyond what a defence rounds away. batch_size: images at a time, all if None.
    """
    if eps < 0 or queries < 2 or steps < 1 or directions not in get_args(Directions):
        raise ValueError(
            f"eps must be at least 0, queries at least 2, steps at least 1 and directions {' or '.join(get_args(Directions))}, got "
            f"{eps}, {queries}, {steps} and {directions!r}"
        )
    pairs = max(queries // (2 * steps), 1)

    def attack(x: Tensor, y: Tensor) -> Tensor:
        (low, high), x_adv = ball(x, eps), x.clone()
        first, second = torch.zeros_like(x), torch.zeros_like(x)  # Adam's moments
        rows = (model(x).argmax(1) == y).nonzero()[:, 0]  # of the images at work
        for step in range(1, steps + 1):
            if not len(rows):
                break
            at = x_adv[rows]
            grad = estimated_gradient(
                model, at, y[rows], objective, radius=rel_radius * eps, pairs=pairs, directions=directions, generator=generator
            )
            first[rows] = BETA1 * first[rows] + (1 - BETA1) * grad
            second[rows] = BETA2 * second[rows] + (1 - BETA2) * grad.square()
            move = first[rows] / (1 - BETA1**step) / ((second[rows] / (1 - BETA2**step)).sqrt() + SMALL)
            x_adv[rows] = (at + rel_step_size * eps * move).clamp(low[rows], high[rows])
            rows = rows[model(x_adv[rows]).argmax(1) == y[rows]]
        return x_adv

    with evaluating(model):
        return in_batches(attack, x, y, batch_size, done)


@torch.no_grad()
def estimated_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    objective: Objective,
    *,
    radius: float,
    pairs: int,
    directions: Directions,
    generator: Generator | None,
) -> Tensor:
    """The mean over `pairs` directions u of (f(x + radius u) - f(x - radius u)) / (2 radius) u, (B, C, H, W), f: the objective.
    signs: u = +-1 (SPSA); normal: u ~ N(0, 1), which estimates the gradient of f smoothed by that noise (NES). The model may be
    asked outside of the image range: what counts is x_adv alone."""
    grad, twice = torch.zeros_like(x), torch.cat([y, y])
    for _ in range(pairs):
        u = torch.empty_like(x).normal_(generator=generator)
        if directions == "signs":
            u = torch.where(u < 0, -1.0, 1.0).to(x.dtype)
        value, _ = objective(model, torch.cat([x + radius * u, x - radius * u]), twice)
        above, below = value.chunk(2)
        grad += ((above - below) / (2 * radius * pairs))[:, None, None, None] * u
    return grad
