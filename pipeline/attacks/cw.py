"""Carlini and Wagner's l2 attack (arXiv:1608.04644, section V-A, and l2_attack.py of their nn_robust_attacks); pcl eq. 20-21."""

from functools import partial
from math import ceil
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from pipeline.attacks.steps import Done, evaluating, gradient, in_batches, no_progress

INSIDE = 0.999999  # as the authors: black and white pixels are moved this little inwards, where arctanh is finite
PROGRESS = 0.9999  # as the authors: progress is an objective below this share of what it was a tenth of the steps ago
# MODIFIED: the authors stop the batch at the first tenth in which its objective makes no progress. Here each image stops for
# itself, when for this many tenths neither its objective nor the lowest so far has made any: images swing about the boundary, and
# black and white ones move only after hundreds of steps (in a try at pcl's 1000 of 0.01, the authors' rule broke no digit made
# black and white).
PATIENCE = 3


@torch.no_grad()
def cw(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    c: float,
    *,
    confidence: Annotated[float, Ge(0)],
    learning_rate: Annotated[float, Gt(0)],
    steps: Annotated[int, Ge(1)],
    binary_search_steps: Annotated[int, Ge(1)],
    generator: Generator | None = None,  # one signature for all attacks; this one draws nothing
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """For each image the nearest x_adv in l2 that was found whose best wrong class is at least `confidence` above y; the image
    itself where none was found or where the model is wrong already. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and
    range.

    c: the constant of the first descent. Each of the other `binary_search_steps` takes it ten times larger until one has succeeded,
    and then halves the interval between failure and success, per image; with 1 it stays as given. batch_size: images at a time, all
    if None.
    """
    if c <= 0 or confidence < 0 or learning_rate <= 0 or steps < 1 or binary_search_steps < 1:
        raise ValueError(
            "c and learning_rate must be above 0, confidence at least 0, steps and binary_search_steps at least 1, got "
            f"{c}, {learning_rate}, {confidence}, {steps} and {binary_search_steps}"
        )
    search = partial(_search, model, c=c, confidence=confidence, lr=learning_rate, steps=steps, times=binary_search_steps)
    with evaluating(model):
        return in_batches(search, x, y, batch_size, done)


def _search(model: nn.Module, x: Tensor, y: Tensor, *, c: float, confidence: float, lr: float, steps: int, times: int) -> Tensor:
    """The nearest that `times` descents with constants of their own for each image find."""
    rows = (model(x).argmax(1) == y).nonzero()[:, 0]  # what there is to attack
    constant = torch.full_like(rows, c, dtype=x.dtype)
    failed, succeeded = torch.zeros_like(constant), torch.full_like(constant, torch.inf)  # constants known to do so
    x_adv, nearest = x.clone(), torch.full_like(constant, torch.inf)
    for _ in range(times):
        found, distance = _descend(model, x[rows], y[rows], constant, confidence, lr, steps)
        nearer = distance < nearest
        x_adv[rows[nearer]], nearest[nearer] = found[nearer], distance[nearer]
        success = distance.isfinite()
        succeeded, failed = torch.where(success, constant, succeeded), torch.where(success, failed, constant)
        constant = torch.where(succeeded.isfinite(), (failed + succeeded) / 2, constant * 10)
    return x_adv


def _descend(
    model: nn.Module, x: Tensor, y: Tensor, c: Tensor, confidence: float, learning_rate: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Adam on |x_adv - x|_2^2 + c * max(Z_y - max_k Z_k, -confidence) over zeta, where x_adv = (tanh(zeta) + 1) / 2. c: (B,)
    -> the nearest adversarial images on the way (B, C, H, W) and their squared distances (B,), inf where there were none."""
    # MODIFIED: pcl eq. 20 prints the norm without the square it has in arXiv:1608.04644, section V-A, and in the authors' code.
    nearest, distances = x.clone(), torch.full_like(c, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # of the images still at work
    zeta = ((2 * x - 1) * INSIDE).atanh()
    first, second = torch.zeros_like(x), torch.zeros_like(x)  # Adam's moments
    idle = torch.zeros_like(rows)  # tenths without progress
    lowest = lowest_then = then = torch.full_like(c, torch.inf)  # of the objective; `then` is a tenth of the steps ago
    for step in range(steps):
        if not len(rows):
            break
        x_adv = (zeta.tanh() + 1) / 2
        grad, logits = gradient(model, x_adv, y, partial(_hinge, confidence=confidence))
        delta, excess = x_adv - x, _excess(logits, y, confidence)
        distance = delta.square().sum(dim=(1, 2, 3))
        nearer = (excess <= 0) & (logits.argmax(1) != y) & (distance < distances[rows])
        nearest[rows[nearer]], distances[rows[nearer]] = x_adv[nearer], distance[nearer]

        grad = (2 * delta + c[:, None, None, None] * grad) * 2 * x_adv * (1 - x_adv)  # d x_adv / d zeta = 2 x_adv (1 - x_adv)
        first.lerp_(grad, 0.1)
        second.lerp_(grad.square(), 0.001)
        root = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
        zeta.addcdiv_(first, root, value=-learning_rate / (1 - 0.9 ** (step + 1)))

        now = distance + c * excess.clamp(min=0)
        lowest = torch.minimum(lowest, now)
        if step % ceil(steps / 10) == 0:
            progress = (now < PROGRESS * then) | (lowest < PROGRESS * lowest_then)
            idle = torch.where(progress, 0, idle + 1)
            going = idle < PATIENCE
            rows, x, y, c, zeta, first, second, lowest, now, idle = (
                values[going] for values in (rows, x, y, c, zeta, first, second, lowest, now, idle)
            )
            lowest_then, then = lowest, now
    return nearest, distances


def _hinge(model: nn.Module, x: Tensor, y: Tensor, *, confidence: float) -> tuple[Tensor, Tensor]:
    """pcl eq. 21 plus the confidence, so that 0 is success (B,), and the logits (B, K)."""
    logits = model(x)
    return _excess(logits, y, confidence).clamp(min=0), logits


def _excess(logits: Tensor, y: Tensor, confidence: float) -> Tensor:
    """By how much Z_y exceeds the best other class less the confidence, (B,)."""
    others = logits.scatter(1, y[:, None], -torch.inf)  # (B, K)
    return logits.gather(1, y[:, None])[:, 0] - others.amax(1) + confidence
