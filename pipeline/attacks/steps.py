"""What the l-inf attacks share: one gradient, and a model that is left as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipeline.attacks.objective import Objective


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """eval() inside, so that batch norm neither uses nor changes with the attacked batch; each module's mode restored after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def gradient(model: nn.Module, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """d objective / d x per image (B, C, H, W), and the logits (B, K). No gradient reaches the model's parameters."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, logits = objective(model, x, y)
        return torch.autograd.grad(value.sum(), x, materialize_grads=True)[0], logits.detach()  # zeros if x plays no part


def ball(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Lower and upper corner of the l-inf ball around x, cut to the image range. Raises ValueError for a negative eps."""
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)
