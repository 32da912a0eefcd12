"""Fast adaptive boundary attack, targeted (FAB-T): steps to the boundary between the true class and a wrong one, taken to be a
plane, that keep near to the clean image. Croce and Hein, arXiv:1907.02044, algorithm 1; one of the four parts of AutoAttack
(arXiv:2003.01690), whose settings and targets it has here."""

from functools import partial
from typing import Annotated, Literal, NamedTuple, get_args

import torch
from annotated_types import Ge
from torch import Generator, Tensor, nn

from pipeline.attacks.apgd import Norm, length, random_point
from pipeline.attacks.objective import Aimed, targeted_margin, wrong_classes
from pipeline.attacks.steps import Done, evaluating, no_progress, slope
from pipeline.attacks.tries import Tries, Try, best_of_each, logits_of

Stop = Literal["never", "sample"]

ALPHA_MAX = 0.1  # the most that the step towards the boundary is biased towards the clean image
ETA = 1.05  # how far beyond the boundary, 1 being on it
BETA = 0.9  # the share of its way that a point keeps which has become adversarial
NO_WEIGHT = 1e-12  # in parts of the largest: such a pixel does not reach its end, but makes nothing good either


@torch.no_grad()
def fab(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    targets: Annotated[int, Ge(1)],
    restarts: Annotated[int, Ge(1)],
    norm: Norm = "linf",
    stop: Stop = "sample",
    generator: Generator | None = None,
    objective: Aimed = targeted_margin,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """For each of the `targets` best wrong classes of the clean image (all of them where there are fewer), best first, `steps`
    steps from the image and restarts - 1 times as many from a random point near it. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv,
    same shape and range: a point that the model gets wrong with |x_adv - x| <= eps in `norm`, x where none was found or where the
    model is wrong already.

    stop: `sample` is early stopping of an image that has such a point, `never` makes every step and returns the nearest.
    objective: the steps lead to its planes; whether an image is broken is decided by the model's prediction. batch_size: as apgd's.
    """
    for name, value, choices in (("norm", norm, get_args(Norm)), ("stop", stop, get_args(Stop))):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if eps < 0 or steps < 1 or targets < 1 or restarts < 1:
        raise ValueError(
            f"eps must be at least 0, steps, targets and restarts at least 1, got {eps}, {steps}, {targets} and {restarts}"
        )
    x_adv, nearest = x.clone(), x.new_full((len(x),), torch.inf)  # and how far that is
    enough = eps if stop == "sample" else -1.0
    room = batch_size or len(x)
    with evaluating(model):
        logits = logits_of(model, x, batch_size)
        aims, starts = wrong_classes(logits, y)[:, :targets], partial(_start, x, eps, norm, generator)
        tries = Tries(logits.argmax(1) == y, aims, restarts, starts, done)
        walk = _begin(tries.take(room))
        while len(walk.row):
            row = walk.row
            walk, wrong, apart = _step(model, walk, x[row], y[row], norm, objective)
            hits = (wrong & (apart <= eps)).nonzero()[:, 0]
            if len(hits):
                hits = hits[best_of_each(row[hits], -apart[hits], len(x))]
                hits = hits[apart[hits] < nearest[row[hits]]]
                x_adv[row[hits]], nearest[row[hits]] = walk.x_adv[hits], apart[hits]
            walk = walk._replace(x_adv=torch.where(wrong[:, None, None, None], x[row] + BETA * (walk.x_adv - x[row]), walk.x_adv))
            over, broken = walk.step == steps, nearest[row] <= enough
            if (over | broken).any():
                tries.end(row[over & ~broken], row[broken])
                walk = Walk(*(values[~over & tries.active[row]] for values in walk))
                more = tries.take(room - len(walk.row))
                walk = Walk(*map(torch.cat, zip(walk, _begin(more), strict=True)))
    return x_adv


class Walk(NamedTuple):
    """Algorithm 1 under way: T tries, each at a step of its own. (T,), images (T, C, H, W)."""

    row: Tensor  # the image
    target: Tensor
    step: Tensor
    x_adv: Tensor


def _begin(more: Try) -> Walk:
    return Walk(more.row, more.target, torch.zeros_like(more.row), more.start)


def _start(x: Tensor, eps: float, norm: Norm, generator: Generator | None, restart: int) -> Tensor:
    return random_point(x, eps / 2, norm, generator) if restart else x


def _step(model: nn.Module, walk: Walk, x: Tensor, y: Tensor, norm: Norm, objective: Aimed) -> tuple[Walk, Tensor, Tensor]:
    """One step towards the boundary of y and the target -> the walk, whether the model gets its points wrong (T,), and how far they
    are from the clean images x (T,)."""
    gap, w = _plane(model, walk.x_adv, y, walk.target, objective)
    clean_gap = gap + (w * (x - walk.x_adv)).sum((1, 2, 3))
    both = project_onto_plane(torch.cat([walk.x_adv, x]), torch.cat([w, w]), torch.cat([gap, clean_gap]), norm)
    to_plane, clean_to_plane = both.chunk(2)
    ours, clean = length(to_plane, norm), length(clean_to_plane, norm)
    alpha = (ours / (ours + clean)).clamp(max=ALPHA_MAX)
    x_adv = ((1 - alpha) * (walk.x_adv + ETA * to_plane) + alpha * (x + ETA * clean_to_plane)).clamp(0, 1)
    wrong = model(x_adv).argmax(1) != y
    return walk._replace(step=walk.step + 1, x_adv=x_adv), wrong, length(x_adv - x, norm)[:, 0, 0, 0]


def _plane(model: nn.Module, x: Tensor, y: Tensor, target: Tensor, objective: Aimed) -> tuple[Tensor, Tensor]:
    """The objective (B,), negative on the side of y, and its gradient in x (B, C, H, W)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, logits = objective(model, x, y, target)
        # MODIFIED: the paper has one objective. Another may change its side where the model does not, and FAB would stay there: on
        # such images z_target - z_y stands for it.
        rows = torch.arange(len(x), device=x.device)
        preference = logits[rows, target] - logits[rows, y]
        value = torch.where(value.sign() == preference.sign(), value, preference)
        return value.detach(), slope(value, x)


def project_onto_plane(x: Tensor, w: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The shortest delta in `norm` with gap + <w, delta> = 0 and x + delta in [0, 1]; where there is none, the one that comes
    nearest to it. x, w: (B, C, H, W), gap: (B,) -> (B, C, H, W). arXiv:1907.02044, section 2.1 and its supplement.

    Every pixel moves towards the plane by min(t * speed, room), speed being 1 in l-inf and |w| in l2 (the conditions of Karush,
    Kuhn and Tucker); what is sought is the t at which the gap is made good. What is made good is linear in t between the values at
    which a pixel reaches its end, so with these in order the piece can be looked up.
    """
    scale = length(w, "linf")[:, 0, 0]  # (B, 1); weights and gap in parts of the largest weight, lest their products overflow
    w, pixels, gap = w.flatten(1) / scale, x.flatten(1), gap[:, None] / scale  # (B, D), (B, D), (B, 1)
    sign = -gap.sign() * w.sign()
    room = torch.where(sign > 0, 1 - pixels, pixels)
    weight = w.abs()
    speed = torch.ones_like(w) if norm == "linf" else weight
    ends, order = (room / speed).masked_fill(weight < NO_WEIGHT, 0).sort(dim=1)
    full = (weight * room).gather(1, order)  # what a pixel makes good at its end
    rate = (weight * speed).gather(1, order)  # and by t before it
    ended = full.cumsum(1)
    moving = rate.flip(1).cumsum(1).flip(1)  # this pixel and those that end after it
    made_good = ended + ends * (moving - rate)  # by all of them, at this pixel's end
    piece = (made_good < gap.abs()).sum(1, keepdim=True)
    beyond, piece = piece == w.shape[1], piece.clamp(max=w.shape[1] - 1)
    t = (gap.abs() - (ended - full).gather(1, piece)) / moving.gather(1, piece).clamp(min=NO_WEIGHT)
    t = torch.where(beyond, ends[:, -1:], t)
    return (sign * torch.minimum(t * speed, room)).view_as(x)
