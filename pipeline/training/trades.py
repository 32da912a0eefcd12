"""The second term of TRADES (Zhang et al., arXiv:1901.08573, eq. 5): what is predicted must not change under the attack."""

import torch
import torch.nn.functional as F
from torch import Tensor


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(clean) || p(attacked)) of logits, (B, K) each -> (B,), at least 0, in float32 or finer: of logits as coarse as bf16,
    rounding would be a large part of a small divergence. The gradient is through both, as in the authors' code."""
    dtype = torch.promote_types(clean.dtype, torch.float32)
    p, q = (logits.log_softmax(1, dtype=dtype) for logits in (clean, attacked))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)
