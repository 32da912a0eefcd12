"""What an attack ascends. A new objective makes an adaptive attack of every attack, with no change to the attack."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(model, x (B, C, H, W), y (B,)) -> the value to be raised per image (B,) and the logits (B, K), from one forward."""


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The objective of FGSM, BIM, MIM and PGD in the two papers."""
    logits = model(x)
    return F.cross_entropy(logits, y, reduction="none"), logits


def joint(losses: Mapping[str, nn.Module]) -> Objective:
    """Cross entropy plus every loss on its feature layer: the attacker knows the prototypes (pcl eq. 8, table 4). The model must
    have `forward_features` (pipeline/models/network.py); each loss gives an image a value that hangs on no other image."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = model.forward_features(x)  # type: ignore[operator]
        value = F.cross_entropy(logits, y, reduction="none")
        for layer, loss in losses.items():
            value = value + loss(features[layer], y)
        return value, logits

    return objective
