"""Auto-PGD, untargeted and targeted: PGD with momentum that chooses its step size by itself. Croce and Hein, arXiv:2003.01690,
algorithm 1 and section 5; two of the four parts of AutoAttack."""

from typing import Annotated, Literal, NamedTuple, get_args

import torch
from annotated_types import Ge, Gt, Lt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Aimed, Objective, cross_entropy, targeted_dlr, wrong_classes
from pipeline.attacks.steps import Done, evaluating, no_progress, slope
from pipeline.attacks.tries import Tries, Try, best_of_each

Norm = Literal["linf", "l2"]

MOMENTUM = 0.75  # alpha of algorithm 1
RHO = 0.75  # of condition 1


@torch.no_grad()
def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    restarts: Annotated[int, Ge(1)],
    norm: Norm = "linf",
    rho: Annotated[float, Gt(0), Lt(1)] = RHO,
    generator: Generator | None = None,
    objective: Objective = cross_entropy,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """`steps` steps up the objective from a random point, up to `restarts` times. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same
    shape and range, |x_adv - x| <= eps in `norm`: of each image the first point that the model gets wrong (x where it does so
    already), else the one where the objective was highest.

    rho: the share of the steps between two checkpoints that must go up for the step size to stay. batch_size: how many tries are
    made at once, as many as images if None; the next takes the place of one that ends.
    """

    def aimed(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return objective(model, x, y)  # away from y, towards no class of our choice

    return _restarted(model, x, y, eps, norm, steps, 1, restarts, rho, generator, aimed, batch_size, done)


@torch.no_grad()
def apgd_targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: Annotated[int, Ge(1)],
    targets: Annotated[int, Ge(1)],
    restarts: Annotated[int, Ge(1)],
    norm: Norm = "linf",
    generator: Generator | None = None,
    objective: Aimed = targeted_dlr,
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """APGD towards each of the `targets` best wrong classes of the clean image (all of them where there are fewer), best first, on
    the images that are still right. Shapes, range and result as `apgd`'s. Raises ValueError for fewer than 4 classes, unless
    another objective than DLR is given."""
    return _restarted(model, x, y, eps, norm, steps, targets, restarts, RHO, generator, objective, batch_size, done)


def random_point(x: Tensor, eps: float, norm: Norm, generator: Generator | None) -> Tensor:
    """A point on the sphere of radius eps around each image, then cut to the image range; drawn as the authors do."""
    if norm == "linf":
        noise = torch.empty_like(x).uniform_(-1, 1, generator=generator)
    else:
        noise = torch.empty_like(x).normal_(generator=generator)
    return (x + eps * noise / length(noise, norm)).clamp(0, 1)


def length(delta: Tensor, norm: Norm) -> Tensor:
    """(B, C, H, W) -> (B, 1, 1, 1), at least the smallest number above 0, so that it can be divided by."""
    size = delta.abs().amax((1, 2, 3), keepdim=True) if norm == "linf" else delta.square().sum((1, 2, 3), keepdim=True).sqrt()
    return size.clamp(min=torch.finfo(delta.dtype).tiny)


def _restarted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: Norm,
    steps: int,
    targets: int,
    restarts: int,
    rho: float,
    generator: Generator | None,
    objective: Aimed,
    batch_size: int | None,
    done: Done,
) -> Tensor:
    """Every restart for every target, on the images that are still right."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    if eps < 0 or steps < 1 or targets < 1 or restarts < 1 or not 0 < rho < 1:
        raise ValueError(
            "eps must be at least 0, steps, targets and restarts at least 1 and rho between 0 and 1, got "
            f"{eps}, {steps}, {targets}, {restarts} and {rho}"
        )
    x_adv, highest = x.clone(), x.new_full((len(x),), -torch.inf)
    gaps = torch.tensor(_checkpoints(steps), device=x.device)
    with evaluating(model):
        logits = _judged(model, x, y, objective, batch_size)
        active = logits.argmax(1) == y
        aims = wrong_classes(logits, y)[:, :targets]
        tries = Tries(active, aims, restarts, lambda _: random_point(x, eps, norm, generator), done)
        climb = _begin(tries.take(batch_size or len(x)), eps)
        while len(climb.row):
            value, grad, right = _evaluate(model, climb.x_adv, y[climb.row], climb.target, objective)
            climb = _look(climb, value, grad)
            over = climb.step == steps
            # of each image the first point that the model gets wrong, else the highest
            score = torch.where(right, climb.highest, torch.inf)
            ends = (over | ~right).nonzero()[:, 0]
            if len(ends):
                ends = ends[best_of_each(climb.row[ends], score[ends], len(x))]
                ends = ends[score[ends] > highest[climb.row[ends]]]
                rows = climb.row[ends]
                x_adv[rows], highest[rows] = _where(right, climb.best, climb.x_adv)[ends], score[ends]
                tries.end(climb.row[over & right], climb.row[~right])
                going = tries.active[climb.row] & ~over
                climb, grad = Climb(*(values[going] for values in climb)), grad[going]
            climb = _step(climb, grad, x[climb.row], eps, norm, rho, gaps)
            more = tries.take((batch_size or len(x)) - len(climb.row))
            if len(more.row):
                climb = Climb(*map(torch.cat, zip(climb, _begin(more, eps), strict=True)))
    return x_adv


def _judged(model: nn.Module, x: Tensor, y: Tensor, objective: Aimed, batch_size: int | None) -> Tensor:
    """The logits (B, K) that the objective returns: they say whether an image is right, at the start as at every step."""
    size = batch_size or len(x)
    return torch.cat([objective(model, *part, part[1])[1] for part in zip(x.split(size), y.split(size), strict=True)])


class Climb(NamedTuple):
    """Algorithm 1 under way: T tries, each at a step of its own. All (T,), images (T, C, H, W)."""

    row: Tensor  # the image
    target: Tensor
    step: Tensor  # from 0, which is the start
    x_adv: Tensor
    previous: Tensor
    best: Tensor
    best_grad: Tensor
    last: Tensor  # the objective one step ago; inf before the start, which is no step upwards
    highest: Tensor
    highest_then: Tensor  # at the last checkpoint
    step_size: Tensor
    ups: Tensor  # steps upwards since then
    halved: Tensor  # whether the step size was, then


def _begin(tries: Try, eps: float) -> Climb:
    row, target, start = tries
    zero = start.new_zeros(len(row))
    count, never = torch.zeros_like(row), torch.zeros_like(row, dtype=torch.bool)
    lowest = zero - torch.inf
    return Climb(row, target, count, start, start, start, start, -lowest, lowest, lowest, zero + 2 * eps, count, never)


def _look(climb: Climb, value: Tensor, grad: Tensor) -> Climb:
    """What the objective (T,) and its gradient at climb.x_adv say."""
    higher = value > climb.highest
    return climb._replace(
        best=_where(higher, climb.x_adv, climb.best),
        best_grad=_where(higher, grad, climb.best_grad),
        last=value,
        highest=torch.where(higher, value, climb.highest),
        ups=climb.ups + (value > climb.last),
    )


def _step(climb: Climb, grad: Tensor, x: Tensor, eps: float, norm: Norm, rho: float, gaps: Tensor) -> Climb:
    """One step along `grad`; at a checkpoint perhaps with half the step size, from the best point. x: the clean images. gaps: of
    `_checkpoints`."""
    gap = gaps[climb.step]
    at = gap > 0
    halve = at & ((climb.ups < rho * gap) | (~climb.halved & (climb.highest == climb.highest_then)))  # conditions 1 and 2
    x_adv, grad = _where(halve, climb.best, climb.x_adv), _where(halve, climb.best_grad, grad)
    step_size = torch.where(halve, climb.step_size / 2, climb.step_size)
    z = _project(x_adv + step_size[:, None, None, None] * _direction(grad, norm), x, eps, norm)
    momentum = _project(x_adv + MOMENTUM * (z - x_adv) + (1 - MOMENTUM) * (x_adv - climb.previous), x, eps, norm)
    return climb._replace(
        step=climb.step + 1,
        x_adv=_where(climb.step > 0, momentum, z),
        previous=x_adv,
        last=torch.where(halve, climb.highest, climb.last),
        highest_then=torch.where(at, climb.highest, climb.highest_then),
        step_size=step_size,
        ups=torch.where(at, 0, climb.ups),
        halved=torch.where(at, halve, climb.halved),
    )


def _checkpoints(steps: int) -> list[int]:
    """By step, from 0 to `steps`: at a checkpoint w_j of algorithm 1 the steps since w_(j-1), else 0. w_j = ceil(p_j * steps) with
    p_j = 0.22, 0.41, 0.57, ..., in whole percents."""
    percent, gap, then, since = 22, 22, 0, [0] * (steps + 1)
    while percent <= 100:
        now = -(-percent * steps // 100)
        if now > then:
            since[now] = now - then
        gap = max(gap - 3, 6)
        percent, then = percent + gap, now
    return since


def _evaluate(model: nn.Module, x: Tensor, y: Tensor, target: Tensor, objective: Aimed) -> tuple[Tensor, Tensor, Tensor]:
    """The objective (B,), its gradient in x (B, C, H, W), and whether the model is right (B,), from one forward."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, logits = objective(model, x, y, target)
        return value.detach(), slope(value, x), logits.argmax(1) == y


def _direction(grad: Tensor, norm: Norm) -> Tensor:
    """The step of length 1 in `norm` that goes up most steeply; 0 where the gradient is."""
    if norm == "linf":
        return grad.sign()
    grad = grad / length(grad, "linf")  # the squares of a tiny gradient would be 0
    return grad / length(grad, "l2")


def _project(x_adv: Tensor, x: Tensor, eps: float, norm: Norm) -> Tensor:
    """Into the ball around x, then into the image range, which does not lead out of it again."""
    delta = x_adv - x
    delta = delta.clamp(-eps, eps) if norm == "linf" else delta * (eps / length(delta, norm)).clamp(max=1)
    return (x + delta).clamp(0, 1)


def _where(condition: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """condition (B,), images (B, C, H, W) -> (B, C, H, W)."""
    return torch.where(condition[:, None, None, None], x, other)
