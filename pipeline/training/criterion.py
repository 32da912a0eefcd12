"""What a training step minimises: cross entropy plus a loss on each of some feature layers (hcp section 4, pcl eq. 8)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class Criterion(nn.Module):
    """logits (B, K), features {layer: (B, D)}, y (B,) -> {"ce": (B,), "<loss>[<layer>]": (B,), ...}. Holds the prototypes."""

    def __init__(self, losses: dict[str, nn.Module], name: str) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.terms = ["ce", *(f"{name}[{layer}]" for layer in losses)]

    def forward(self, logits: Tensor, features: dict[str, Tensor], y: Tensor) -> dict[str, Tensor]:
        values = [F.cross_entropy(logits, y, reduction="none")]
        values += [loss(features[layer], y) for layer, loss in self.losses.items()]
        return dict(zip(self.terms, values, strict=True))

    def prototypes(self) -> dict[str, list[nn.Parameter]]:
        """Prototype parameters of all layers by their name in the loss, e.g. {"centres": [...], "radii": [...]}."""
        groups: dict[str, list[nn.Parameter]] = {}
        for loss in self.losses.values():
            for name, parameter in loss.named_parameters():
                groups.setdefault(name, []).append(parameter)
        return groups


def build_criterion(
    loss: Callable[[int, int], nn.Module] | None, name: str, layers: list[str], dims: dict[str, int], classes: int
) -> Criterion:
    """A `loss(classes, dim)`, called `name`, on each of `layers` of a network with feature widths `dims`; None for cross entropy
    alone. Raises ValueError for a layer that the network does not have."""
    unknown = [layer for layer in layers if layer not in dims]
    if unknown:
        raise ValueError(f"layers: the network has no {', '.join(unknown)}, choose from {', '.join(dims)}")
    return Criterion({} if loss is None else {layer: loss(classes, dims[layer]) for layer in layers}, name)
