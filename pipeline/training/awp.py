"""Adversarial weight perturbation (Wu et al., arXiv:2004.05884)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipeline.runtime.distributed import sum_over_ranks

NO_ZERO = 1e-12  # a weight without a gradient stays where it is


@contextmanager
def perturbed(network: nn.Module, loss: Callable[[], Tensor], gamma: float) -> Iterator[None]:
    """Inside, every weight w of the network with more than one dimension is w + gamma |w| g / |g|, where g is the gradient of
    `loss`: eq. 9-10 with one step. After it the weights are again what they were, bit by bit. The pass that finds g leaves no trace
    in buffers, such as the statistics of batch norm.

    `loss` is the whole training loss of the batch, which is attacked already.
    MODIFIED: the authors restore after the optimiser's step, so that their weight decay is that of the perturbed weights; here it
    is the caller who steps, with the weights restored. Classifiers of auxiliary branches and prototypes are not perturbed.
    """
    weights = [weight for weight in network.parameters() if weight.ndim > 1]
    buffers = list(network.buffers())
    seen = [buffer.clone() for buffer in buffers]
    gradients = torch.autograd.grad(loss(), weights, materialize_grads=True)  # zeros for a branch without a loss
    sum_over_ranks(gradients)
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for buffer, before in zip(buffers, seen, strict=True):
            buffer.copy_(before)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.add_(gradient * (gamma * weight.norm() / (gradient.norm() + NO_ZERO)))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
