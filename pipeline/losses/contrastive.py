"""Contrastive loss (Hadsell, Chopra & LeCun, CVPR 2006); pcl eq. 14."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn


class Contrastive(nn.Module):
    """weight * 1/2 (mean over p of 1/2 d_ip^2 + mean over n of 1/2 max(0, margin - d_in)^2) of one feature layer, with p the other
    images of the batch of the class of image i, n those of other classes, d the distance. g: (B, D), y: (B,) int64 -> (B,). A mean
    over no image is 0. normalize: the features are first brought to length 1, so that the margin, at most 2, has a scale.

    The paper does not say how it draws pairs. The two means are what pairs that are as often of one class as of two give; a mean
    over all pairs would weigh the pull with the share of equal labels, about 1 / classes.
    """

    by_image = False

    def __init__(
        self, classes: int, dim: int, *, margin: Annotated[float, Gt(0)], weight: Annotated[float, Gt(0)], normalize: bool
    ) -> None:
        super().__init__()
        self.margin, self.weight, self.normalize = margin, weight, normalize

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        g = F.normalize(g, dim=1) if self.normalize else g
        # not by the matrix product: its rounding error makes the direction (g_i - g_j) / d of close pairs too long; 0 at d = 0
        d = torch.cdist(g, g, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
        same = y[:, None] == y  # (B, B)
        pull = torch.where(same, d.square(), 0).sum(1) / (same.sum(1) - 1).clamp(min=1)  # d_ii = 0; 1 less: i itself
        push = torch.where(same, 0, (self.margin - d).clamp(min=0).square()).sum(1) / (~same).sum(1).clamp(min=1)
        return self.weight / 4 * (pull + push)
