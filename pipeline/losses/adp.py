"""Adaptive diversity promoting training of an ensemble (Pang et al., ICML 2019)."""

from math import log
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from pipeline.losses.prototypes import own_class

JITTER = 1e-6  # on the diagonal of the Gram matrix, as in the authors' code: log det stays finite for members that agree


class ADP(nn.Module):
    """sum_m CE(F_m, y) - alpha H(mean_m F_m) - beta log ED of the predictions F_m = softmax of the logits of M members.
    g: (B, M * K), the members' logits side by side, K = `classes`; y: (B,) int64 -> (B,).

    H is the entropy in nats of the mean of the probabilities over all K classes, the label among them (not the mean of the
    members' entropies). ED = det(V^T V) is the squared volume that the members' predictions without the label, each of unit
    length, span. It is the paper's whole loss: the cross entropy of the ensemble itself must not be added to it.
    """

    by_image = False

    def __init__(self, classes: int, dim: int, *, alpha: Annotated[float, Ge(0)], beta: Annotated[float, Ge(0)]) -> None:
        super().__init__()
        if dim % classes or dim // classes >= classes:
            raise ValueError(f"adp: needs the logits of 1 to {classes - 1} members with {classes} classes each, got {dim} numbers")
        self.classes, self.alpha, self.beta = classes, alpha, beta

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        logits = g.unflatten(1, (-1, self.classes))  # (B, M, K)
        log_p = logits.log_softmax(2)
        log_mean = torch.logsumexp(log_p, 1) - log(logits.shape[1])  # (B, K), in logs: no log 0
        entropy = -(log_mean.exp() * log_mean).sum(1)
        own = own_class(y, self.classes)
        cross_entropy = -torch.where(own[:, None], log_p, 0).sum((1, 2))
        return cross_entropy - self.alpha * entropy - self.beta * log_diversity(logits, own)


def log_diversity(logits: Tensor, own: Tensor) -> Tensor:
    """log ED. logits: (B, M, K), own: (B, K) bool, true at the label -> (B,), at most about 0."""
    # a softmax without the label has the direction of the prediction without it, and never a length of 0
    others = logits.masked_fill(own[:, None], -torch.inf).softmax(2)
    v = F.normalize(others, dim=2).double()  # (B, M, K); double: members that agree make the determinant tiny
    gram = v @ v.mT + JITTER * torch.eye(v.shape[1], dtype=v.dtype, device=v.device)  # (B, M, M)
    return torch.logdet(gram).to(logits.dtype)
