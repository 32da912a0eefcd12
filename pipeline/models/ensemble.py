"""Several networks that predict together, as in ADP (Pang et al., arXiv:1901.08846)."""

import math

import torch
from torch import Tensor, nn

from pipeline.models.network import Features, Network


class Ensemble(Network):
    """M networks of one architecture. Its softmax is the mean of theirs (eq. 1): logits = log of it, (B, K).

    Features: `members` (B, M K), the members' logits side by side, then each layer's features side by side, (B, M D).
    Raises ValueError for no members or for members that are not alike.
    """

    LAYERS = ("members", *Network.LAYERS)

    def __init__(self, members: list[Network]) -> None:
        super().__init__()
        kinds = {(type(member), member.classes, *member.dims.items()) for member in members}
        if len(kinds) != 1:
            raise ValueError(f"an ensemble needs one or more networks of one architecture, got {sorted(map(str, kinds)) or 'none'}")
        self.members = nn.ModuleList(members)
        self.classes = members[0].classes
        self.dims = {name: len(members) * dim for name, dim in {"members": self.classes, **members[0].dims}.items()}

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        outputs = [member.forward_features(x) for member in self.members]  # type: ignore[operator]
        logits = [logits for logits, _ in outputs]
        features = {layer: torch.cat([features[layer] for _, features in outputs], dim=1) for layer in outputs[0][1]}
        return log_mean_softmax(logits), {"members": torch.cat(logits, dim=1), **features}

    def forward(self, x: Tensor) -> Tensor:
        return log_mean_softmax([member(x) for member in self.members])


def log_mean_softmax(logits: list[Tensor]) -> Tensor:
    """Logits of M members, (B, K) each -> (B, K), log of the mean of their softmax probabilities. float32 at least."""
    stacked = torch.stack(logits)  # (M, B, K)
    log_p = stacked.log_softmax(dim=2, dtype=torch.promote_types(stacked.dtype, torch.float32))
    return log_p.logsumexp(dim=0) - math.log(len(logits))
