"""Square attack (Andriushchenko et al., ECCV 2020, arXiv:1912.00049): random search on scores alone, as AutoAttack has it."""

from bisect import bisect_left
from functools import partial
from math import sqrt
from typing import Annotated, get_args

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Generator, Tensor, nn

from pipeline.attacks.apgd import Norm
from pipeline.attacks.objective import Objective, margin
from pipeline.attacks.steps import Done, evaluating, in_batches, no_progress

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10000 queries, section 5: the share p of the pixels is halved


@torch.no_grad()
def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    queries: Annotated[int, Ge(2)],
    p_init: Annotated[float, Gt(0), Le(1)],
    norm: Norm = "linf",
    generator: Generator | None = None,
    objective: Objective = margin,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """Algorithm 1: a change in a random square stays if it raises the objective; early stopping once an image is misclassified.
    x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same shape and range, |x_adv - x| <= eps in `norm`. Nothing is differentiated.

    queries: forwards per image, including that of the clean image (AutoAttack: 5000). p_init: share of the pixels in the
    first squares (AutoAttack: 0.8). Draws from `generator`, which must be on x's device. batch_size: images
    at a time, all if None.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    if eps < 0 or queries < 2 or not 0 < p_init <= 1:
        raise ValueError(
            f"eps must be at least 0, queries at least 2 and p_init above 0 and at most 1, got {eps}, {queries} and {p_init}"
        )
    search = partial(_search, model, eps=eps, queries=queries, p_init=p_init, norm=norm, generator=generator, objective=objective)
    with evaluating(model):
        return in_batches(search, x, y, batch_size, done)


def _search(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    queries: int,
    p_init: float,
    norm: Norm,
    generator: Generator | None,
    objective: Objective,
) -> Tensor:
    start, propose = (_stripes, _recoloured_square) if norm == "linf" else (_tiles, _moved_mass)
    rows = (model(x).argmax(1) == y).nonzero()[:, 0]  # of the images at work
    x_adv, origin, label = x.clone(), x[rows], y[rows]
    best, highest = origin, x.new_full((len(rows),), -torch.inf)
    for query in range(queries - 1):
        if not len(rows):
            break
        tried = propose(best, origin, eps, share(query, queries, p_init), generator) if query else start(origin, eps, generator)
        value, logits = objective(model, tried, label)
        broken = logits.argmax(1) != label
        better = broken | (value > highest)
        best, highest = torch.where(better[:, None, None, None], tried, best), torch.where(better, value, highest)
        if broken.any():
            x_adv[rows[broken]] = best[broken]
            rows, origin, label, best, highest = (values[~broken] for values in (rows, origin, label, best, highest))
    x_adv[rows] = best
    return x_adv


def share(query: int, queries: int, p_init: float) -> float:
    """p, the share of the pixels in the square of a query (from 0) of `queries`."""
    return p_init / 2.0 ** bisect_left(HALVED_AFTER, 10000 * query / queries)


def _signs(*shape: int, like: Tensor, generator: Generator | None) -> Tensor:
    """-1 or 1, each as likely."""
    return torch.randint(0, 2, shape, generator=generator, device=like.device).to(like.dtype) * 2 - 1


def _stripes(x: Tensor, eps: float, generator: Generator | None) -> Tensor:
    """Vertical stripes of -eps or eps, one pixel wide, per channel (section 3.3)."""
    batch, channels, _, width = x.shape
    return (x + eps * _signs(batch, channels, 1, width, like=x, generator=generator)).clamp(0, 1)


def _recoloured_square(best: Tensor, x: Tensor, eps: float, p: float, generator: Generator | None) -> Tensor:
    """Algorithm 2: one square of +-2 eps per channel on top of `best`, brought back into the ball, so that it becomes x +- eps."""
    batch, channels, height, width = x.shape
    size = min(max(round(sqrt(p * height * width)), 1), height, width)
    inside = torch.zeros_like(x[:, 0], dtype=torch.bool).flatten(1)  # (B, H * W)
    inside = inside.scatter(1, _window(x, size, generator), True).view(batch, 1, height, width)
    return torch.where(inside, (x + eps * _signs(batch, channels, 1, 1, like=x, generator=generator)).clamp(0, 1), best)


def _window(x: Tensor, size: int, generator: Generator | None) -> Tensor:
    """Where the pixels of a size x size square are in the flat image, at a place of its own in each, (B, size * size)."""
    # MODIFIED: the authors' code never puts a square against the lower and right edge, the paper does; on 8x8 pixels it matters.
    batch, _, height, width = x.shape
    top = torch.randint(0, height - size + 1, (batch, 1, 1), generator=generator, device=x.device)
    left = torch.randint(0, width - size + 1, (batch, 1, 1), generator=generator, device=x.device)
    side = torch.arange(size, device=x.device)
    return ((top + side[:, None]) * width + left + side).flatten(1)


def _tiles(x: Tensor, eps: float, generator: Generator | None) -> Tensor:
    """eta in each of the squares of a 5 x 5 grid (section 3.4), every one turned and signed by chance, scaled to norm eps."""
    batch, channels, height, width = x.shape
    size = max(min(height, width) // 5, 1)
    down, across = -(-height // size), -(-width // size)  # where 5 is no divisor the last tiles are cut
    tile = _eta(size, like=x)[:, None]  # (size, 1, size)
    turned = _signs(batch, 1, down, 1, across, 1, like=x, generator=generator) > 0
    delta = torch.where(turned, tile, tile.transpose(0, 2))  # (B, 1, down, size, across, size)
    delta = delta * _signs(batch, channels, down, 1, across, 1, like=x, generator=generator)
    delta = delta.reshape(batch, channels, down * size, across * size)[..., :height, :width].flatten(1)
    return (x + eps * F.normalize(delta).view_as(x)).clamp(0, 1)


def _moved_mass(best: Tensor, x: Tensor, eps: float, p: float, generator: Generator | None) -> Tensor:
    """Algorithm 3: a second window is emptied, and its mass and what the clipping has left of eps go into the first one, in which
    eta is added to the direction that the perturbation has there."""
    batch, channels, height, width = x.shape
    size = max(round(sqrt(p * height * width)), 3)
    size = min(size + 1 - size % 2, height, width)  # odd, as the authors' code has it
    nu = (best - x).flatten(2)  # (B, C, H * W)
    unused = (eps**2 - nu.square().sum((1, 2))).clamp(min=0)
    first, second = (_window(x, size, generator)[:, None].expand(-1, channels, -1) for _ in range(2))  # (B, C, size * size)
    eta = _eta(size, like=x)
    turned = _signs(batch, 1, 1, like=x, generator=generator) > 0
    eta = torch.where(turned, eta.flatten(), eta.T.flatten())  # (B, 1, size * size)
    new = F.normalize(nu.gather(2, first), dim=2) + _signs(batch, channels, 1, like=x, generator=generator) * eta
    outside = nu.scatter(2, first, 0.0).scatter(2, second, 0.0)
    available = (nu.square().sum(2) - outside.square().sum(2)).clamp(min=0) + unused[:, None] / channels  # (B, C), squared
    nu = outside.scatter(2, first, F.normalize(new, dim=2) * available.sqrt()[..., None])
    # again to eps, as the authors' code does: rounding adds up over thousands of steps
    return (x + eps * F.normalize(nu.flatten(1)).view_as(x)).clamp(0, 1)


def _eta(size: int, *, like: Tensor) -> Tensor:
    """Equation 2: a bump in the upper half of the square, one of the other sign in the lower, (size, size) of norm 1."""
    halves = [_bump(size // 2, size, like=like), -_bump(size - size // 2, size, like=like)]
    return F.normalize(torch.cat(halves).flatten(), dim=0).view(size, size)


def _bump(height: int, width: int, *, like: Tensor) -> Tensor:
    """At distance d (in the maximum norm) from the centre the sum of 1 / (k + 1)^2, k from d to n, (height, width) of norm 1."""
    rows, columns = torch.arange(height, device=like.device), torch.arange(width, device=like.device)
    distance = torch.maximum((rows - height // 2).abs()[:, None], (columns - width // 2).abs())
    terms = torch.arange(1, max(height, width) // 2 + 2, device=like.device).to(like.dtype) ** -2
    sums = terms.flip(0).cumsum(0).flip(0)
    return F.normalize(sums[distance].flatten(), dim=0).view(height, width)
