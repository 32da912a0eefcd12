"""What the attacks share: one gradient, a model that is left as it was found, and the loop of the l-inf attacks by sign steps."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from pipeline.attacks.objective import OF_MODEL_ONLY, Objective

Stop = Literal["never", "sample", "batch"]
Done = Callable[[float], object]  # told how many more images, or parts of them, are done, for a progress bar


def no_progress(count: float) -> None:
    """The `Done` that does nothing: there is no progress bar."""


@runtime_checkable
class Records(Protocol):
    """A model that records on a GPU what is done with its network (pipeline/models/replayed.py)."""

    network: nn.Module

    def recorded(self, name: Hashable, work: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """work(*inputs), recorded under that name."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, so that batch norm neither uses nor changes with the attacked batch, and no gradients of parameters, so
    that a forward keeps nothing for them. Each module's mode and each parameter's requires_grad are restored after."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def gradient(model: nn.Module, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """d objective / d x per image (B, C, H, W), and the logits (B, K). No gradient reaches the model's parameters."""
    if isinstance(model, Records) and objective in OF_MODEL_ONLY:
        grad, logits = model.recorded(objective, partial(_gradient, model.network, objective=objective), x, y)
        return grad, logits
    return _gradient(model, x, y, objective)


def _gradient(model: nn.Module, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, logits = objective(model, x, y)
        return slope(value, x), logits.detach()


def slope(value: Tensor, x: Tensor) -> Tensor:
    """d value / d x, (B,) and (B, C, H, W) -> (B, C, H, W): zero where autograd knows no way from x to the value (detached, argmax,
    argsort) and where what it finds is not a number."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value.sum(), x, materialize_grads=True)[0].nan_to_num(nan=0.0)


def ball(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Lower and upper corner of the l-inf ball around x, cut to the image range. Raises ValueError for a negative eps."""
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def in_batches(attack: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, batch_size: int | None, done: Done) -> Tensor:
    """attack(x, y) -> x_adv, so many images at a time. x: (N, C, H, W), y: (N,) -> (N, C, H, W)."""
    parts = []
    for images, labels in zip(x.split(batch_size or len(x)), y.split(batch_size or len(x)), strict=True):
        parts.append(attack(images, labels))
        done(len(images))
    return torch.cat(parts)


def sign_steps(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    eps: float,
    objective: Objective,
    *,
    steps: int,
    step_size: float,
    decay: float | None = None,
    stop: Stop = "never",
    batch_size: int | None = None,
    done: Done = no_progress,
) -> Tensor:
    """`steps` steps of step_size * sign from `start` within the l-inf ball around x, along the gradient or, with a `decay`, along
    m = decay * m + gradient / |gradient|_1. x, start: (N, C, H, W) in [0, 1], y: (N,) -> x_adv, same shape and range.

    stop: `sample` is early stopping of each image once it is misclassified, `batch` stops when all images of a batch are
    misclassified at once (the authors' noise measurement in hcp table 3), `never` makes every step. batch_size: how many images go
    through the model at once, all if None; with `sample` the next image takes the place of one that is done, so that all batches
    but the last few are full.
    """
    if stop not in get_args(Stop):
        raise ValueError(f"stop must be one of {', '.join(get_args(Stop))}, got {stop!r}")

    def step(x_adv: Tensor, grad: Tensor, before: Tensor | None, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        along = grad
        if decay is not None:
            along = grad / grad.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)  # no gradient: 0
            along = along if before is None else decay * before + along
        return torch.add(x_adv, along.sign(), alpha=step_size).clamp(low, high), along

    def together(x: Tensor, y: Tensor, x_adv: Tensor) -> Tensor:
        """The same images make all their steps at once."""
        (low, high), momentum = ball(x, eps), None
        for _ in range(steps):
            grad, logits = gradient(model, x_adv, y, objective)
            if stop == "batch" and not (logits.argmax(1) == y).any():
                break
            x_adv, momentum = step(x_adv, grad, momentum, low, high)
        done(len(x))
        return x_adv

    def with_early_stopping(x_adv: Tensor) -> Tensor:
        """Each batch holds active images only: the next one takes the place of one that is done."""
        (low, high), momentum = ball(x, eps), torch.zeros_like(x) if decay is not None else None
        waiting = torch.arange(len(x), device=x.device)
        taken = torch.zeros_like(waiting)  # steps
        while len(waiting):
            rows = waiting[:batch_size]
            at, label, lowest, highest, made = (whole.index_select(0, rows) for whole in (x_adv, y, low, high, taken))
            grad, logits = gradient(model, at, label, objective)
            right = logits.argmax(1) == label
            moved, along = step(at, grad, None if momentum is None else momentum.index_select(0, rows), lowest, highest)
            x_adv.index_copy_(0, rows, torch.where(right[:, None, None, None], moved, at))
            if momentum is not None:
                momentum.index_copy_(0, rows, along)
            taken.index_copy_(0, rows, made + 1)
            going = rows[right & (made + 1 < steps)]
            done(len(rows) - len(going))
            waiting = torch.cat([going, waiting[len(rows) :]])
        return x_adv

    with evaluating(model):
        if stop == "sample":
            return with_early_stopping(start.clone())
        parts = zip(*(whole.split(batch_size or len(x)) for whole in (x, y, start)), strict=True)
        return torch.cat([together(*part) for part in parts])
