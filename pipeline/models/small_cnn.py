"""A small batch-norm conv net for images from 8x8 to 32x32: minutes on a CPU, with the two feature layers of the papers' ResNet."""

from typing import Annotated

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from pipeline.models.network import Features, Network
from pipeline.models.normalize import Normalize

Width = Annotated[int, Ge(1)]


class SmallCNN(Network):
    """Per entry of `widths` a 3x3 convolution (batch norm, ReLU) and 2x2 max pooling, then a 3x3 convolution to `gap` channels,
    global average pooling (feature `gap`), a linear layer without activation (feature `fc`, as the 1024-d layer of the released PCL
    network) and the classifier. Grey or colour, mean and std: (C,) of the training images.
    """

    LAYERS = ("gap", "fc")

    def __init__(
        self, classes: int, mean: Tensor, std: Tensor, *, widths: Annotated[list[Width], MinLen(1)], gap: Width, fc: Width
    ) -> None:
        super().__init__()
        self.dims = {"gap": gap, "fc": fc}
        blocks: list[nn.Module] = [Normalize(mean, std)]
        channels = len(mean)
        for width in widths:
            blocks += [*_conv(channels, width), nn.MaxPool2d(2, ceil_mode=True)]  # ceil: never below 1x1
            channels = width
        self.trunk = nn.Sequential(*blocks, *_conv(channels, gap))
        self.fc = nn.Linear(gap, fc)
        self.classifier = nn.Linear(fc, classes)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        gap = self.trunk(x).mean(dim=(2, 3))  # (B, gap)
        fc = self.fc(gap)  # (B, fc)
        return self.classifier(fc), {"gap": gap, "fc": fc}


def _conv(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
