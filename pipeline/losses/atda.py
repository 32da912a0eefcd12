"""Adversarial training with domain adaptation (Song et al., ICLR 2019)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn


class ATDA(nn.Module):
    """weight * (MMD + CORAL + margin loss) of the logits of a batch that is clean images and then their adversarial ones.
    g: (2B, K), y: (2B,) int64 -> (2B,), whose mean is the term. Raises ValueError for an odd batch.

    With m and S the mean and covariance of a half: MMD = |m_clean - m_adv|_1 / K, CORAL = |S_clean - S_adv|_1 / K^2, both the same
    for all images. Margin loss of an image: mean over j != y of softplus(|g - c_y|_1 - |g - c_j|_1).

    Parameter: `centres` (C, K) c, from 0. As in losses/center.py their gradient is not the loss's but the paper's update,
    sum_i (c_j - g_i) / (1 + n_j) over the n_j images of class j in the batch: plain SGD with rate 0.1 is the paper's rule, whatever
    the weight, when the caller takes the mean over the batch.

    The paper's weight, 1/3, is beside the sum of the mean cross entropies of the two halves: beside the mean over both it is 1/6.
    MODIFIED: the authors' code leaves CORAL's S undivided by the number of images; here it is the covariance of the paper.
    """

    by_image = False

    def __init__(self, classes: int, dim: int, *, weight: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.weight = weight
        self.centres = nn.Parameter(torch.zeros(classes, dim))

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        if len(g) % 2:
            raise ValueError(f"atda: the batch must be clean images and then as many attacked ones, got {len(g)} images")
        clean, attacked = g.chunk(2)
        mmd = (clean.mean(0) - attacked.mean(0)).abs().mean()
        coral = (covariance(clean) - covariance(attacked)).abs().mean()
        loss = self.weight * (mmd + coral + margin_loss(g, y, self.centres.detach()))
        count = (y[:, None] == y).sum(1)  # (2B,) images of the same class in the batch
        update = (g.detach() - self.centres[y]).square().sum(1) / 2 * len(g) / (1 + count)  # len(g): undoes the caller's mean
        return loss + (update - update.detach())  # the second part is 0 and only carries the centres' gradient


def covariance(g: Tensor) -> Tensor:
    """(B, K) -> (K, K), unbiased; 0 for one image."""
    centred = g - g.mean(0)
    return centred.T @ centred / max(len(g) - 1, 1)


def margin_loss(g: Tensor, y: Tensor, centres: Tensor) -> Tensor:
    """g: (B, K), y: (B,) int64, centres: (C, K) -> (B,)."""
    d = torch.cdist(g, centres, p=1)  # (B, C)
    own = d.gather(1, y[:, None])  # (B, 1)
    return F.softplus(own - d).scatter(1, y[:, None], 0.0).sum(1) / (len(centres) - 1)
