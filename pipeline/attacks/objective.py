"""What an attack ascends. A new objective makes an adaptive attack of every attack, with no change to the attack."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(model, x (B, C, H, W), y (B,)) -> the value to be raised per image (B,) and the logits (B, K), from one forward."""

NO_ZERO = 1e-12  # as the authors of DLR: where the largest logits are all the same


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The objective of FGSM, BIM, MIM and PGD in the two papers."""
    logits = model(x)
    return F.cross_entropy(logits, y, reduction="none"), logits


def margin(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the best wrong class leads y, above 0 where the model is wrong. For any number of classes, but not of one scale
    for all models, as `dlr` is."""
    logits = model(x)
    return _lead(logits, y), logits


def dlr(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of logits ratio, arXiv:2003.01690, eq. 6: at most 1, above 0 where the model is wrong, and blind to the logits'
    shift and scale, so that no scaling of them hides the gradient. Raises ValueError for fewer than 3 classes."""
    logits = model(x)
    first, _, third = _largest(logits, 3, "dlr")
    return _lead(logits, y) / (first - third + NO_ZERO), logits


def targeted_dlr(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """DLR towards one wrong class per image, target (B,): arXiv:2003.01690, eq. 7. An `Objective` once `target` is bound. Raises
    ValueError for fewer than 4 classes."""
    logits = model(x)
    first, _, third, fourth = _largest(logits, 4, "targeted_dlr")
    gap = logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])  # (B, 1)
    return gap[:, 0] / (first - (third + fourth) / 2 + NO_ZERO), logits


def wrong_classes(logits: Tensor, y: Tensor) -> Tensor:
    """All classes but y, the one with the highest logit first. logits: (B, K), y: (B,) -> (B, K - 1) int64."""
    return logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :-1]


def _lead(logits: Tensor, y: Tensor) -> Tensor:
    """The best other logit less that of y, (B,)."""
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


def _largest(logits: Tensor, count: int, name: str) -> Sequence[Tensor]:
    """The `count` largest logits of each image, (B,) each."""
    if logits.shape[1] < count:
        raise ValueError(f"{name} needs at least {count} classes, got {logits.shape[1]}; take cross_entropy or margin")
    return logits.topk(count, dim=1).values.unbind(1)


def joint(losses: Mapping[str, nn.Module]) -> Objective:
    """Cross entropy plus every loss on its feature layer: the attacker knows the prototypes (pcl eq. 8, table 4). The model must
    have `forward_features` (pipeline/models/network.py); each loss gives an image a value that hangs on no other image."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = model.forward_features(x)  # type: ignore[operator]
        value = F.cross_entropy(logits, y, reduction="none")
        for layer, loss in losses.items():
            value = value + loss(logits if layer == "logits" else features[layer], y)
        return value, logits

    return objective
