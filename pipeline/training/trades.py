"""The second term of TRADES (Zhang et al., arXiv:1901.08573, eq. 5): what is predicted must not change under the attack."""

import torch.nn.functional as F
from torch import Tensor


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(clean) || p(attacked)) of logits, (B, K) each -> (B,), at least 0. The gradient is through both, as in the authors'
    code."""
    return F.kl_div(attacked.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True).sum(1)
