"""Center loss (Wen et al., ECCV 2016); pcl eq. 11-13."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from pipeline.losses.prototypes import CentreInit, new_centres


class CenterLoss(nn.Module):
    """weight / 2 |g - c_y|^2 of one feature layer. g: (B, D), y: (B,) int64 -> (B,).

    Parameter: `centres` (C, D). Their gradient is not the loss's but eq. 13, sum_i (c_j - g_i) / (1 + n_j) over the n_j images of
    class j in the batch, so that plain SGD with rate alpha is the paper's update, eq. 12, whatever the weight. It holds when the
    caller takes the mean over the batch.
    """

    by_image = True

    def __init__(self, classes: int, dim: int, *, weight: Annotated[float, Gt(0)], centre_init: CentreInit) -> None:
        super().__init__()
        self.weight = weight
        self.centres = new_centres(classes, dim, centre_init)

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        loss = self.weight / 2 * (g - self.centres.detach()[y]).square().sum(1)
        count = (y[:, None] == y).sum(1)  # (B,) images of the same class in the batch
        update = (g.detach() - self.centres[y]).square().sum(1) / 2 * len(g) / (1 + count)  # len(g): undoes the caller's mean
        return loss + (update - update.detach())  # the second part is 0 and only carries the centres' gradient
