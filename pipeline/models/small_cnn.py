"""A small batch-norm conv net for images from 8x8 to 32x32: minutes on a CPU, with the five layers of the papers' ResNet."""

from typing import Annotated

from annotated_types import Ge, Len
from torch import Tensor, nn

from pipeline.models.network import Average, FiveLayers

Width = Annotated[int, Ge(1)]


class SmallCNN(FiveLayers):
    """Layers 1 to 4: a 3x3 convolution to widths[i], batch norm, ReLU; the first two have 2x2 max pooling before the ReLU
    (the same function as after it); the fourth ends in global average pooling. Layer 5: linear to `penultimate`, without
    activation, as the 1024-d layer of the released PCL network. The branch of layer 3: global average pooling and a linear layer
    to `branch`. Grey or colour, mean and std: (C,) of the training images.
    """

    def __init__(
        self,
        classes: int,
        mean: Tensor,
        std: Tensor,
        *,
        widths: Annotated[list[Width], Len(4, 4)],
        branch: Width,
        penultimate: Width,
    ) -> None:
        one, two, three, four = widths
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                nn.Sequential(*_conv(len(mean), one), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()),
                nn.Sequential(*_conv(one, two), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()),
                nn.Sequential(*_conv(two, three), nn.ReLU()),
                nn.Sequential(*_conv(three, four), nn.ReLU(), Average()),
                nn.Linear(four, penultimate),
            ),
            dims=(one, two, branch, four, penultimate),
            branches={"layer3": nn.Sequential(Average(), nn.Linear(three, branch))},
        )


def _conv(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
