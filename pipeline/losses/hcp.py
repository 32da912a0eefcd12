"""Hyperspherical class prototypes (Mygdalis & Pitas, Pattern Recognition 2022), eq. 9-12."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from pipeline.losses.prototypes import CentreInit, new_centres, own_class, squared_distances

Weight = Annotated[float, Ge(0)]


class HCP(nn.Module):
    """margin * L_M + proximity * L_P + negative * L_NP of one feature layer. g: (B, D), y: (B,) int64 -> (B,).

    Parameters: `centres` (C, D) and `radii` (C,), which start at 1. With d_ij = dist(g_i, a_j) and t_ij = +1 at the label, else -1:
    L_M = max(c, -t_ij (r_j^2 - d_ij)), L_P = d_iy / (r_y^2 + e), L_NP = r_j^2 / (d_ij + e) for j != y.

    MODIFIED: the paper prints d as the squared distance, summed over the classes, with normal centres; that form starts in the
    thousands on a wide layer and does not train. The authors' later public code takes the distance itself and uniform centres.
    Both can be chosen: `distance`, `reduction` (sum or mean over the classes), `centre_init`.
    """

    by_image = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        margin: Weight,
        proximity: Weight,
        negative: Weight,
        distance: Literal["euclidean", "squared"],
        reduction: Literal["mean", "sum"],
        centre_init: CentreInit,
        c: Annotated[float, Ge(0)],
        e: Annotated[float, Gt(0)],
    ) -> None:
        super().__init__()
        self.margin, self.proximity, self.negative = margin, proximity, negative
        self.distance, self.reduction, self.c, self.e = distance, reduction, c, e
        self.centres = new_centres(classes, dim, centre_init)
        self.radii = nn.Parameter(torch.ones(classes))

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        squared = self.distance == "squared"
        d = squared_distances(g, self.centres, least=0.0 if squared else 1e-12)  # (B, C); a root has no gradient at 0
        d = d if squared else d.sqrt()
        own, r2 = own_class(y, len(self.radii)), self.radii.square()
        margin = _times(self.margin, F.threshold((2.0 * own - 1) * (d - r2), self.c, self.c))  # at most c: c
        ratio = torch.where(own, d, r2) / (torch.where(own, r2, d) + self.e)  # L_P at the label, L_NP elsewhere
        if self.proximity == self.negative:
            per_class = margin + _times(self.proximity, ratio)  # (B, C)
        else:
            per_class = margin + torch.where(own, self.proximity * ratio, self.negative * ratio)
        return per_class.mean(1) if self.reduction == "mean" else per_class.sum(1)


def _times(weight: float, value: Tensor) -> Tensor:
    """Without the pass over memory that a weight of 1 would cost."""
    return value if weight == 1 else weight * value
