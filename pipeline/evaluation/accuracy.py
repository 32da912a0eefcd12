"""How many predictions are right."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.attacks.steps import evaluating


@torch.no_grad()
def accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int, attack: Callable[..., Tensor] | None = None
) -> float:
    """Share of right predictions in percent, in eval mode, on the images as they are or on attack(model, x, y).
    images: (N, C, H, W) uint8, labels: (N,)."""
    right = torch.zeros((), device=images.device)
    with evaluating(model):
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            x = x.float() / 255
            right += (model(x if attack is None else attack(model, x, y)).argmax(1) == y).sum()
    return 100 * right.item() / len(images)
