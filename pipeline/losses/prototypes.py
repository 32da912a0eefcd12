"""Class prototypes: learnable centres in a feature space."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CentreInit = Literal["uniform", "normal"]


def new_centres(classes: int, dim: int, centre_init: CentreInit) -> nn.Parameter:
    """(C, D), uniform on [0, 1) or standard normal."""
    return nn.Parameter(torch.rand(classes, dim) if centre_init == "uniform" else torch.randn(classes, dim))


def squared_distances(g: Tensor, centres: Tensor, least: float = 0.0) -> Tensor:
    """|g_i - a_j|^2, at least `least`. g: (B, D), centres: (C, D) -> (B, C), from one matrix product. So written that its backward
    has few kernels: on a GPU, where all of them are small, each costs the same."""
    zero = g.new_zeros(1)
    of_g, of_centres = (F.mse_loss(x, zero.expand_as(x), reduction="none").sum(1) for x in (g, centres))
    return F.threshold(of_g[:, None] + of_centres + g @ (-2 * centres).T, least, least)  # rounding: below 0


def own_class(y: Tensor, classes: int) -> Tensor:
    """(B,) int64 -> (B, C) bool, true at the label."""
    return y[:, None] == torch.arange(classes, device=y.device)
