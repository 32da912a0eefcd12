"""Auto-PGD, untargeted and targeted: PGD with momentum that chooses its step size by itself. Croce and Hein, arXiv:2003.01690,
algorithm 1 and section 5; two of the four parts of AutoAttack."""

from typing import Annotated, Literal, get_args

import torch
from annotated_types import Ge, Gt, Lt
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Aimed, Objective, cross_entropy, targeted_dlr, wrong_classes
from pipeline.attacks.steps import evaluating

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
) -> Tensor:
    """`steps` steps up the objective from a random point, up to `restarts` times. x: (B, C, H, W) in [0, 1], y: (B,) -> x_adv, same
    shape and range, |x_adv - x| <= eps in `norm`: of each image the first point that the model gets wrong (x where it does so
    already), else the one where the objective was highest.

    rho: the share of the steps between two checkpoints that must go up for the step size to stay.
    """

    def aimed(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return objective(model, x, y)  # away from y, towards no class of our choice

    return _restarted(model, x, y, eps, norm, steps, 1, restarts, rho, generator, aimed)


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
) -> Tensor:
    """APGD towards each of the `targets` best wrong classes of the clean image (all of them where there are fewer), best first, on
    the images that are still right. Shapes, range and result as `apgd`'s. Raises ValueError for fewer than 4 classes, unless
    another objective than DLR is given."""
    return _restarted(model, x, y, eps, norm, steps, targets, restarts, RHO, generator, objective)


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
    with evaluating(model):
        logits = model(x)
        rows = (logits.argmax(1) == y).nonzero()[:, 0]  # of the images that are still right
        for target in wrong_classes(logits, y)[:, :targets].unbind(1):
            for _ in range(restarts):
                if not len(rows):
                    return x_adv
                start = random_point(x, eps, norm, generator)  # for all, so that no image's start hangs on what befell others
                batch = x[rows], y[rows], target[rows], start[rows]
                found, value, broken = _ascend(model, *batch, eps, norm, steps, rho, objective)
                better = broken | (value > highest[rows])
                x_adv[rows[better]], highest[rows[better]] = found[better], value[better]
                rows = rows[~broken]
    return x_adv


def _ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    target: Tensor,
    start: Tensor,
    eps: float,
    norm: Norm,
    steps: int,
    rho: float,
    objective: Aimed,
) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1 from `start` -> of each image the first point that the model gets wrong, else the highest (B, C, H, W), the
    objective there (B,), and whether the model gets it wrong (B,)."""
    found, reached, broken = start.clone(), x.new_zeros(len(x)), torch.ones_like(y, dtype=torch.bool)
    row = torch.arange(len(x), device=x.device)  # of the images still at work
    x_adv = previous = best = best_grad = start
    last = torch.full_like(reached, torch.inf)  # the start is no step upwards
    highest = highest_then = -last  # `then` is the last checkpoint
    step_size, ups, halved = torch.full_like(reached, 2 * eps), torch.zeros_like(y), torch.zeros_like(broken)
    checkpoints = _checkpoints(steps)
    for step in range(steps + 1):
        value, grad, right = _evaluate(model, x_adv, y, target, objective)
        higher, ups = value > highest, ups + (value > last)
        best, best_grad = _where(higher, x_adv, best), _where(higher, grad, best_grad)
        highest, last = torch.where(higher, value, highest), value
        wrong = row[~right]
        found[wrong], reached[wrong] = x_adv[~right], value[~right]
        if len(wrong):
            row, x, y, target, x_adv, previous, grad, best, best_grad, last, highest, highest_then, step_size, ups, halved = (
                values[right]
                for values in (
                    *(row, x, y, target, x_adv, previous, grad, best, best_grad),
                    *(last, highest, highest_then, step_size, ups, halved),
                )
            )
        if step == steps or not len(row):
            break
        if step in checkpoints:
            halve = (ups < rho * checkpoints[step]) | (~halved & (highest == highest_then))  # conditions 1 and 2
            x_adv, grad, last = _where(halve, best, x_adv), _where(halve, best_grad, grad), torch.where(halve, highest, last)
            step_size = torch.where(halve, step_size / 2, step_size)
            highest_then, halved, ups = highest, halve, torch.zeros_like(ups)
        z = _project(x_adv + step_size[:, None, None, None] * _direction(grad, norm), x, eps, norm)
        if step:
            z = _project(x_adv + MOMENTUM * (z - x_adv) + (1 - MOMENTUM) * (x_adv - previous), x, eps, norm)
        previous, x_adv = x_adv, z
    found[row], reached[row], broken[row] = best, highest, False
    return found, reached, broken


def _checkpoints(steps: int) -> dict[int, int]:
    """w_j of algorithm 1 and the steps since w_(j-1): w_j = ceil(p_j * steps), p_j = 0.22, 0.41, 0.57, ..., in whole percents."""
    percent, gap, then, checkpoints = 22, 22, 0, {}
    while percent <= 100:
        now = -(-percent * steps // 100)
        if now > then:
            checkpoints[now] = now - then
        gap = max(gap - 3, 6)
        percent, then = percent + gap, now
    return checkpoints


def _evaluate(model: nn.Module, x: Tensor, y: Tensor, target: Tensor, objective: Aimed) -> tuple[Tensor, Tensor, Tensor]:
    """The objective (B,), its gradient in x (B, C, H, W), and whether the model is right (B,), from one forward."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, logits = objective(model, x, y, target)
        return value.detach(), torch.autograd.grad(value.sum(), x, materialize_grads=True)[0], logits.argmax(1) == y


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
