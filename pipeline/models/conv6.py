"""The 6-conv model of the PCL paper (table 1): the convolutions of the center loss paper (Wen et al., ECCV 2016)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from pipeline.models.network import Average, FiveLayers

SLOPE = 0.25  # of PReLU at the start, as He et al. (arXiv:1502.01852) and Wen et al. have it


class PReLU(nn.PReLU):
    """PyTorch's, with a slope for each channel of x (B, C, H, W). On a CPU, where PyTorch's own gradient takes a sixth of an
    attack's time, this one is three times as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.is_cuda else torch.lerp(F.relu(x), x, self.weight.to(x.dtype).view(-1, 1, 1))


class Conv6(FiveLayers):
    """Layers 1 to 3: two 5x5 convolutions (padding 2) with a PReLU each, to 32, 64 and 128 channels, then 2x2 max pooling. Global
    average pooling, layer 4: linear to 512, layer 5: linear to `penultimate` (64 in the paper, 2 in its figures 1 and 6), both
    without activation: table 1 names PReLU at the convolutions only. For 28x28 grey images, takes other sizes and colour.
    894,826 parameters with grey, 10 classes and penultimate 64.

    Table 1 sets GAP at layer 3 without the brackets that mark the branch of its ResNet: here it is on the path to the logits.
    PReLU has a slope for each channel and pooling rounds up (28, 14, 7, 4), both Caffe's defaults, which Wen et al. used.
    Weights: He et al.'s normal for PReLU, by fan-in, since no batch norm follows; PyTorch's default shrinks the signal layer by
    layer. Linear layers have PyTorch's default.
    """

    def __init__(self, classes: int, mean: Tensor, std: Tensor, *, penultimate: Annotated[int, Ge(1)]) -> None:
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                _pair(len(mean), 32),
                _pair(32, 64),
                _pair(64, 128),
                nn.Sequential(Average(), nn.Linear(128, 512)),
                nn.Linear(512, penultimate),
            ),
            dims=(32, 64, 128, 512, penultimate),
            branches={},
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, mode="fan_in", nonlinearity="leaky_relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _pair(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2),
        PReLU(width, init=SLOPE),
        nn.Conv2d(width, width, 5, padding=2),
        PReLU(width, init=SLOPE),
        nn.MaxPool2d(2, ceil_mode=True),
    )
