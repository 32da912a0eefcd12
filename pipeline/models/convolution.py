"""A 3x3 convolution that is fast where small images put it: on grey pixels, and on maps of a few pixels."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


class Convolution(nn.Conv2d):
    """3x3, padding 1: the function of `nn.Conv2d`, with its weights, to the rounding. On a GPU it is just that. On a CPU, oneDNN's
    kernels take several times as long as the work is worth, up to 100 times for the gradient of the weights on 1x1 maps: maps of
    at most 2x2 pixels, of which each is beside each, go through one product of matrices instead, and grey images get their
    gradient from a product and nine sums. What comes out may be a view, so a ReLU after it is not in place: autograd would copy.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 3, padding=1, bias=False)
        self.held: dict[torch.Size, tuple[Tensor, Tensor | None]] | None = None

    def hold(self) -> None:
        """Until the next call the weights stay what they are now, and learn nothing: what is made of them is made once."""
        self.held = {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        if x.device.type != "cpu":
            return super().forward(x)
        if max(x.shape[2:]) <= 2:
            y: Tensor = F.linear(x.permute(0, 2, 3, 1).flatten(1), *self._matrix(x.shape[2:]))
            return y.view(len(x), *x.shape[2:], self.out_channels).permute(0, 3, 1, 2)  # in memory channels last, as x is read
        if self.in_channels == 1 and x.requires_grad:
            y = _FromGrey.apply(x, self.weight)
            return y if self.bias is None else y + self.bias[:, None, None]
        return super().forward(x)

    def _matrix(self, size: torch.Size) -> tuple[Tensor, Tensor | None]:
        """From (H W C) to (H W D), and the bias."""
        if self.held is not None and size in self.held:
            return self.held[size]
        pixels, taps = size.numel(), self.weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9, D, C)
        pairs = taps.index_select(0, _taps(*size)).view(pixels, pixels, self.out_channels, self.in_channels)  # to, from
        matrix = pairs.transpose(1, 2).reshape(pixels * self.out_channels, pixels * self.in_channels)
        made = matrix, None if self.bias is None else self.bias.repeat(pixels)
        if self.held is not None:
            self.held[size] = made
        return made


@cache
def _taps(height: int, width: int) -> Tensor:
    """Which of the 9 weights leads to each pixel from each: (H W, H W) in one row."""
    y, x = (index.flatten() for index in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    return (3 * (y - y[:, None] + 1) + x - x[:, None] + 1).flatten()


@cache
def _inside(height: int, width: int) -> Tensor:
    """By tap and pixel, 1 where the pixel that the tap leads to lies in the image, else 0: (9, 1, H W)."""
    taps = torch.zeros(9, height, width)
    for i in range(9):
        taps[i, max(1 - i // 3, 0) : height + min(1 - i // 3, 0), max(1 - i % 3, 0) : width + min(1 - i % 3, 0)] = 1
    return taps.flatten(1)[:, None]


class _FromGrey(torch.autograd.Function):
    """x (B, 1, H, W), weight (D, 1, 3, 3) -> (B, D, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)  # bf16 under autocast
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            count, _, height, width = x.shape
            shares = weight.flatten(1).t() @ grad.permute(0, 2, 3, 1).reshape(-1, len(weight)).t()  # (9, B H W)
            shares.view(9, count, height * width).mul_(_inside(height, width))
            margin, pixels = width + 1, count * height * width  # all images in one row, a tap is a shift along it
            flat = shares.new_zeros(pixels + 2 * margin)
            for i, share in enumerate(shares):
                flat.narrow(0, margin + (i // 3 - 1) * width + i % 3 - 1, pixels).add_(share)
            to_x = flat.narrow(0, margin, pixels).view(count, 1, height, width)
        if ctx.needs_input_grad[1]:
            to_weight = conv2d_weight(x, weight.shape, grad, padding=1)
        return to_x, to_weight
