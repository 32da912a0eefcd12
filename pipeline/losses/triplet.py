"""Triplet loss (Schroff, Kalenichenko & Philbin, CVPR 2015); pcl eq. 15."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from pipeline.losses.prototypes import squared_distances


class Triplet(nn.Module):
    """weight * max(0, margin + |g_i - g_p|^2 - |g_i - g_n|^2) of one feature layer, for each image i as the anchor, with p another
    image of the batch of its class and n one of another class. g: (B, D), y: (B,) int64 -> (B,), 0 for an anchor without p or n.

    The paper does not say how it draws triplets. `mining`: "all" is the mean over all p and n of the anchor, those without a loss
    too, which is what random triplets give; "hard" takes the farthest p and the nearest n (Hermans et al., 2017). normalize: the
    features are first brought to length 1, as in Schroff et al., section 3.1; pcl eq. 15 does not say.
    """

    by_image = False

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        margin: Annotated[float, Gt(0)],
        weight: Annotated[float, Gt(0)],
        mining: Literal["all", "hard"],
        normalize: bool,
    ) -> None:
        super().__init__()
        self.margin, self.weight, self.mining, self.normalize = margin, weight, mining, normalize

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        g = F.normalize(g, dim=1) if self.normalize else g
        d = squared_distances(g, g)  # (B, B)
        negative = y[:, None] != y
        positive = ~negative & ~torch.eye(len(y), dtype=torch.bool, device=y.device)
        mine = hardest if self.mining == "hard" else mean_over_all
        return self.weight * mine(d, positive, negative, self.margin)


def hardest(d: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Triplet loss of the farthest positive and nearest negative of each row. d: (B, B), masks (B, B) -> (B,)."""
    farthest = d.masked_fill(~positive, -torch.inf).amax(1)  # -inf without a positive, +inf without a negative: a hinge of 0
    nearest = d.masked_fill(~negative, torch.inf).amin(1)
    return (margin + farthest - nearest).clamp(min=0)


def mean_over_all(d: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Mean of the triplet loss over all pairs of a positive and a negative of each row. d: (B, B), masks (B, B) -> (B,).

    From sorted rows, with the memory of B^2 instead of B^3 numbers: the sum of the hinges is margin * (number of triplets that
    violate it) + the sum of each d_p times its violated triplets - the sum of each d_n times its.
    """
    with torch.no_grad():
        reach = margin + d  # a negative closer than the reach of a positive violates the margin
        closer = torch.searchsorted(d.masked_fill(~negative, torch.inf).sort(1).values, reach)  # (B, B) negatives closer than that
        not_beyond = torch.searchsorted(reach.masked_fill(~positive, -torch.inf).sort(1).values, d, right=True)
        violated = torch.where(positive, closer, 0)  # (B, B) triplets of a positive
        times = violated - torch.where(negative, len(d) - not_beyond, 0)  # positive and negative are never both
    total = margin * violated.sum(1) + (times * d).sum(1)
    return total / (positive.sum(1) * negative.sum(1)).clamp(min=1)
