"""Batch norm over the batch of all ranks, on any device."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.models.network import Network


class SyncedBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d with mean and variance over the batches of all ranks. x: (B, C, H, W); B differs by rank and may be 0. It can
    be differentiated twice, which a gradient penalty needs; nn.SyncBatchNorm cannot, and runs on GPUs only. In eval mode, and in
    the state dict, it is nn.BatchNorm2d."""

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        sums: Tensor = Total.apply(torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([x.numel() // x.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = wide - mean[:, None, None]
        var: Tensor = Total.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1).clamp(min=1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class Total(torch.autograd.Function):
    """The sum over ranks (all-reduce). Every rank's loss depends on every part of the sum, so the gradient of a part is the sum of
    the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total: Tensor = Total.apply(grad)
        return total


def with_synced_norms(network: Network) -> Network:
    """Replaces each nn.BatchNorm2d of the network by a SyncedBatchNorm with the same weights."""
    for name, norm in [*network.named_modules()]:
        if isinstance(norm, nn.BatchNorm2d):
            synced = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum).to(norm.weight)
            synced.load_state_dict(norm.state_dict())
            network.set_submodule(name, synced)
    return network
