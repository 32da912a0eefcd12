"""What an attack ascends. A new objective makes an adaptive attack of every attack, with no change to the attack."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(model, x (B, C, H, W), y (B,)) -> the value to be raised per image (B,) and the logits (B, K), from one forward."""

Aimed = Callable[[nn.Module, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""An objective that is told a wrong class of each image too, target (B,): (model, x, y, target). Bound, it is an `Objective`."""

NO_ZERO = 1e-12  # as the authors of DLR: where the largest logits are all the same


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The objective of FGSM, BIM, MIM and PGD in the two papers."""
    logits = model(x)
    return F.cross_entropy(logits, y, reduction="none"), logits


def margin(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the best wrong class leads y, above 0 where the model is wrong. For any number of classes, but not of one scale
    for all models, as `dlr` is."""
    logits = model(x)
    return lead(logits, y), logits


def dlr(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of logits ratio, arXiv:2003.01690, eq. 6: at most 1, above 0 where the model is wrong, and blind to the logits'
    shift and scale, so that no scaling of them hides the gradient. Raises ValueError for fewer than 3 classes."""
    logits = model(x)
    first, _, third = _largest(logits, 3, "dlr", "cross_entropy or margin")
    return lead(logits, y) / (first - third + NO_ZERO), logits


def expected(objective: Objective, draws: int) -> Objective:
    """The mean of an objective over `draws` forwards, for a stochastic model: expectation over transformation, EOT
    (Athalye et al., arXiv:1802.00420, section 4.2)."""

    def mean(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        values, logits = zip(*(objective(model, x, y) for _ in range(draws)), strict=True)
        return torch.stack(values).mean(0), torch.stack(logits).mean(0)

    return mean


OF_MODEL_ONLY = frozenset({cross_entropy, margin, dlr})  # objectives that depend on their arguments alone


def targeted_margin(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """z_target - z_y, above 0 where the model prefers the target: the objective of FAB-T (arXiv:1907.02044). Of cross entropy it is
    what y's is above the target's. For any number of classes."""
    logits = model(x)
    return _gap(logits, y, target), logits


def targeted_dlr(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """DLR towards one wrong class: arXiv:2003.01690, eq. 7. Raises ValueError for fewer than 4 classes."""
    logits = model(x)
    first, _, third, fourth = _largest(logits, 4, "targeted_dlr", "targeted_margin")
    return _gap(logits, y, target) / (first - (third + fourth) / 2 + NO_ZERO), logits


def wrong_classes(logits: Tensor, y: Tensor) -> Tensor:
    """All classes but y, the one with the highest logit first. logits: (B, K), y: (B,) -> (B, K - 1) int64."""
    return logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :-1]


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """The best other logit less that of y. logits: (B, K), y: (B,) -> (B,)."""
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


def _gap(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The target's logit less that of y, (B,)."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]


def _largest(logits: Tensor, count: int, name: str, instead: str) -> Sequence[Tensor]:
    """The `count` largest logits of each image, (B,) each."""
    if logits.shape[1] < count:
        raise ValueError(f"{name} needs at least {count} classes, got {logits.shape[1]}; take {instead}")
    return logits.topk(count, dim=1).values.unbind(1)


# Adaptive attacks: the attacker knows the prototypes. The model must have `forward_features` (pipeline/models/network.py).


def joint(losses: Mapping[str, nn.Module]) -> Objective:
    """Cross entropy plus every loss on its feature layer: the attacker knows the prototypes (pcl eq. 8, table 4). Each loss gives
    an image a value that depends on no other image."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = _features(model, x)
        value = F.cross_entropy(logits, y, reduction="none")
        for layer, loss in losses.items():
            value = value + loss(features[layer], y)
        return value, logits

    return objective


def joint_targeted(losses: Mapping[str, nn.Module]) -> Aimed:
    """`joint` for the label y less `joint` for the target. The cross entropies' difference is `targeted_margin`; each loss says how
    much better the features fit the target's prototype than that of y."""

    def objective(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = _features(model, x)
        value = _gap(logits, y, target)
        for layer, loss in losses.items():
            value = value + loss(features[layer], y) - loss(features[layer], target)
        return value, logits

    return objective


def features(centres: Mapping[str, Tensor]) -> Objective:
    """Out of the own class's hypersphere towards the nearest wrong centre: the sum over the layers of log d(g, a_y) - min_j!=y log
    d(g, a_j), d being the distance of the features g from a centre, above 0 where a wrong centre is nearer. An attack by the
    distance from the prototypes is what hcp section 6 leaves to future work. centres: {layer: (K, D)}.

    The ratio of distances knows no scale of its own, so every layer has the same say."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = _features(model, x)
        value = torch.zeros_like(logits[:, 0])
        for layer, a in centres.items():
            # by differences: a matrix product rounds small distances to 0
            d = torch.cdist(features[layer], a.detach(), compute_mode="donot_use_mm_for_euclid_dist")  # (B, K)
            closeness = -d.clamp(min=torch.finfo(d.dtype).tiny).log()  # on a centre finite, and without gradient
            value = value + lead(closeness, y)
        return value, logits

    return objective


def _features(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """One forward -> logits (B, K) and the features by layer; `logits` is one as well, as losses can be on it."""
    logits, features = model.forward_features(x)  # type: ignore[operator]
    return logits, {**features, "logits": logits}
