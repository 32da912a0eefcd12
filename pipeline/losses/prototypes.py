"""Class prototypes: learnable centres in a feature space."""

from typing import Literal

import torch
from torch import Tensor, nn

CentreInit = Literal["uniform", "normal"]


def new_centres(classes: int, dim: int, centre_init: CentreInit) -> nn.Parameter:
    """(C, D), uniform on [0, 1) or standard normal."""
    return nn.Parameter(torch.rand(classes, dim) if centre_init == "uniform" else torch.randn(classes, dim))


def squared_distances(g: Tensor, centres: Tensor, least: float = 0.0) -> Tensor:
    """|g_i - a_j|^2, at least `least`. g: (B, D), centres: (C, D) -> (B, C), from one matrix product."""
    squares = g.square().sum(1, keepdim=True) + centres.square().sum(1)
    return squares.sub(g @ centres.T, alpha=2).clamp(min=least)  # rounding: below 0


def own_class(y: Tensor, classes: int) -> Tensor:
    """(B,) int64 -> (B, C) bool, true at the label."""
    return y[:, None] == torch.arange(classes, device=y.device)
