"""The first layer of every network, so that images outside a model are always plain [0, 1] pixels."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std by channel. x: (B, C, H, W) in [0, 1] -> same shape. mean, std: (C,), kept as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        # copies: buffers that shared the caller's memory, or each other's, would be overwritten by the next load
        self.register_buffer("mean", mean.to(torch.float32, copy=True).reshape(1, -1, 1, 1))
        self.register_buffer("std", std.to(torch.float32, copy=True).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
