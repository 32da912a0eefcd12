"""Prototype conformity loss (Mustafa et al., TPAMI 2021), eq. 5."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from pipeline.losses.prototypes import CentreInit, new_centres, own_class, squared_distances

Weight = Annotated[float, Ge(0)]


class PCL(nn.Module):
    """pull |g - a_y|^2 - 1/(C-1) sum_{j != y} (push |g - b_j|^2 + apart |a_y - a_j|^2) of one feature layer.
    g: (B, D), y: (B,) int64 -> (B,), unbounded below when push or apart is above 0.

    Parameters: `centres` a (C, D) and, unless `shared_centres`, `push_centres` b (C, D); shared means b = a.
    The paper's form: pull = push = apart = 1, shared. The released code's: pull 1, push 1e-4, apart 0, not shared.
    """

    by_image = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        pull: Weight,
        push: Weight,
        apart: Weight,
        shared_centres: bool,
        centre_init: CentreInit,
    ) -> None:
        super().__init__()
        self.pull, self.push, self.apart = pull, push, apart
        self.centres = new_centres(classes, dim, centre_init)
        self.push_centres = None if shared_centres else new_centres(classes, dim, centre_init)

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        classes = len(self.centres)
        own = own_class(y, classes)
        to_centres = squared_distances(g, self.centres)  # (B, C)
        to_others = to_centres if self.push_centres is None else squared_distances(g, self.push_centres)
        others = self.push * to_others
        if self.apart:
            others = others + self.apart * squared_distances(self.centres, self.centres)[y]  # (B, C)
        others = others.masked_fill(own, 0).sum(1) / (classes - 1)
        own_distance = to_centres.gather(1, y[:, None])[:, 0]
        return (own_distance if self.pull == 1 else self.pull * own_distance) - others
