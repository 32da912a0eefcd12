"""Predictions and features on images as they are."""

import torch
from torch import Tensor, nn

from pipeline.attacks.steps import evaluating


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> float:
    """Share of right predictions in percent, in eval mode. images: (N, C, H, W) uint8, labels: (N,)."""
    right = torch.zeros((), device=images.device)
    with evaluating(model):
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (model(x.float() / 255).argmax(1) == y).sum()
    return 100 * right.item() / len(images)
