"""What an attack ascends. A new objective makes an adaptive attack of every attack, with no change to the attack."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(model, x (B, C, H, W), y (B,)) -> the value to be raised per image (B,) and the logits (B, K), from one forward."""


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The objective of FGSM, BIM, MIM and PGD in the two papers."""
    logits = model(x)
    return F.cross_entropy(logits, y, reduction="none"), logits
