"""What the papers' prototypes are for: the class of the nearest one (pcl eq. 7), and membership in the hypersphere of the predicted
class (hcp eq. 8-9), from which a rule of rejection follows. Neither paper says what the two keep under attack."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.attacks.apgd import apgd, apgd_targeted
from pipeline.attacks.objective import (
    Aimed,
    Objective,
    cross_entropy,
    lead,
    targeted_dlr,
    targeted_margin,
)
from pipeline.evaluation.robustness import Attack

LOGITS = "logits"  # a layer that losses can be on, besides the network's
E = 1e-3  # as in L_P, hcp eq. 10


@runtime_checkable
class Hyperspheres(Protocol):
    """A loss with radii (pipeline/losses/hcp.py), of the distance `squared` or `euclidean`."""

    radii: Tensor
    distance: str


class Prototypes(NamedTuple):
    """Of one layer. centres: (K, D); radii: (K,), r of hcp eq. 8, or none; squared: the loss's distance is squared."""

    layer: str
    centres: Tensor
    radii: Tensor | None
    squared: bool


def last_prototypes(losses: Mapping[str, nn.Module], layers: Sequence[str]) -> Prototypes | None:
    """Those of the last of `layers`, from input to output, that has centres; None where none has. losses: by layer. The papers name
    no layer: the last one is what the classifier sees."""
    for layer in reversed([*layers, LOGITS]):
        own = dict(losses[layer].named_parameters()) if layer in losses else {}
        if "centres" in own:
            loss, centres = losses[layer], own["centres"].detach()
            if isinstance(loss, Hyperspheres):
                return Prototypes(layer, centres, loss.radii.detach(), loss.distance == "squared")
            return Prototypes(layer, centres, None, False)
    return None


def distances(g: Tensor, centres: Tensor) -> Tensor:
    """Euclidean. g: (B, D), centres: (K, D) -> (B, K). By differences: a matrix product rounds small ones to 0."""
    return torch.cdist(g, centres, compute_mode="donot_use_mm_for_euclid_dist")


class Nearest(nn.Module):
    """Images (B, C, H, W) -> minus the squared distances from the centres, (B, K), so that the largest is of the nearest prototype:
    pcl eq. 7. network: one with `forward_features`."""

    centres: Tensor

    def __init__(self, network: nn.Module, own: Prototypes) -> None:
        super().__init__()
        self.network, self.layer = network, own.layer
        self.register_buffer("centres", own.centres, persistent=False)

    def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's logits are among the features."""
        logits, found = self.network.forward_features(x)  # type: ignore[operator]
        found = {**found, LOGITS: logits}
        return -distances(found[self.layer].to(self.centres.dtype), self.centres).square(), found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0]


class Member(nn.Module):
    """Images (B, C, H, W) -> (B, K + 1): the network's logits, and one that is the largest where the image is rejected, because it
    lies outside the hypersphere of the predicted class: d > r^2 of it, d being the distance that the loss takes."""

    def __init__(self, network: nn.Module, own: Prototypes) -> None:
        super().__init__()
        self.network, self.own = network, own

    def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, found = self.network.forward_features(x)  # type: ignore[operator]
        found = {**found, LOGITS: logits}
        rejected = ~accepted(logits, *membership(found, self.own))
        high, low = logits.amax(1), logits.amin(1)
        rejection = torch.where(rejected, above(high), -above(-low))
        return torch.cat([logits, rejection[:, None]], dim=1), found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0]


def above(values: Tensor) -> Tensor:
    """Larger numbers, whatever their size."""
    return values + values.abs() + 1


def membership(found: Mapping[str, Tensor], own: Prototypes) -> tuple[Tensor, Tensor]:
    """d (B, K), in the distance of the loss, and r^2 (K,). found: features by layer. Raises ValueError without radii."""
    if own.radii is None:
        raise ValueError(f"the prototypes on {own.layer} have no radii")
    d = distances(found[own.layer], own.centres)
    return d.square() if own.squared else d, own.radii.square()


def accepted(logits: Tensor, d: Tensor, r2: Tensor) -> Tensor:
    """Whether an image lies in the hypersphere of the predicted class. logits, d: (B, K), r2: (K,) -> (B,) bool."""
    prediction = logits.argmax(1)
    return d.gather(1, prediction[:, None])[:, 0] <= r2[prediction]


def not_broken(prediction: Tensor, y: Tensor, classes: int) -> Tensor:
    """Right or rejected; prediction: (B,), which is `classes` where the image is rejected."""
    return (prediction == y) | (prediction == classes)


# Objectives. The model is a Nearest or a Member; the logits that they return say whether an image is broken.


def on_logits(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of the network's logits: an attacker who does not know the rule, yet goes on until it is broken."""
    answer, found = model.forward_features(x)  # type: ignore[operator]
    return F.cross_entropy(found[LOGITS], y, reduction="none"), _told(answer, found[LOGITS], y)


def ratio(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Of a Nearest: log d of the own centre - log d of the nearest wrong one, which knows no scale: cross entropy of squared
    distances has no gradient left where they lie far apart."""
    answer = model(x)
    closeness = -(-answer).clamp(min=torch.finfo(answer.dtype).tiny).log() / 2
    return lead(closeness, y), answer


def shortfall(logits: Tensor, d: Tensor, r2: Tensor) -> Tensor:
    """What each class lacks to be predicted and accepted, 0 where it is: by how much its logit is behind the best other, in parts
    of the distance from the highest to the lowest, plus by how much d is beyond r^2, in parts of r^2 + E. logits, d: (B, K),
    r2: (K,) -> (B, K). Neither part knows a scale of its own."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    leads = logits == first[:, None]
    behind = torch.where(leads, second[:, None], first[:, None]) - logits
    spread = (logits.amax(1) - logits.amin(1)).clamp(min=torch.finfo(logits.dtype).tiny)
    return behind.clamp(min=0) / spread[:, None] + ((d - r2) / (r2 + E)).clamp(min=0)


def accepted_wrong(own: Prototypes) -> Objective:
    """Minus the smallest `shortfall` of a wrong class."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        lacks, logits = _lacks(model, x, y, own)
        return -lacks.scatter(1, y[:, None], torch.inf).amin(1), logits

    return objective


def accepted_target(own: Prototypes) -> Aimed:
    """Minus the target's `shortfall`."""

    def objective(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        lacks, logits = _lacks(model, x, y, own)
        return -lacks.gather(1, target[:, None])[:, 0], logits

    return objective


def _lacks(model: nn.Module, x: Tensor, y: Tensor, own: Prototypes) -> tuple[Tensor, Tensor]:
    """The shortfall of each class (B, K), and the logits as `on_logits` returns them."""
    answer, found = model.forward_features(x)  # type: ignore[operator]
    return shortfall(found[LOGITS], *membership(found, own)), _told(answer, found[LOGITS], y)


def _told(answer: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    """What the attack is told (B, K): the answer of a Nearest; of a Member the logits, with that of y on top unless the image is
    broken, so that an attack does not end where it is rejected. answer: (B, K) or (B, K + 1)."""
    if answer.shape == logits.shape:
        return answer
    stands = not_broken(answer.argmax(1), y, logits.shape[1])
    return torch.where(stands[:, None], logits.scatter(1, y[:, None], above(logits.amax(1))[:, None]), logits)


def nearest_attacks(classes: int, *, steps: int, restarts: int, targets: int) -> dict[str, Attack]:
    """On a Nearest: first one that does not know it, then through the distances."""
    aimed = targeted_dlr if classes >= 4 else targeted_margin
    return {
        "logits": partial(apgd, steps=steps, restarts=restarts, objective=on_logits),
        "ce": partial(apgd, steps=steps, restarts=restarts, objective=cross_entropy),
        "ratio": partial(apgd, steps=steps, restarts=restarts, objective=ratio),
        "t": partial(apgd_targeted, steps=steps, restarts=restarts, targets=targets, objective=aimed),
    }


def membership_attacks(own: Prototypes, *, steps: int, restarts: int, targets: int) -> dict[str, Attack]:
    """On a Member: first one that does not know it, then those that aim at being accepted."""
    return {
        "logits": partial(apgd, steps=steps, restarts=restarts, objective=on_logits),
        "any": partial(apgd, steps=steps, restarts=restarts, objective=accepted_wrong(own)),
        "t": partial(apgd_targeted, steps=steps, restarts=restarts, targets=targets, objective=accepted_target(own)),
    }
