"""VGG-19 with batch norm (Simonyan & Zisserman, arXiv:1409.1556, configuration E) in its usual form for small images."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from pipeline.models.convolution import Convolution
from pipeline.models.network import Average, FiveLayers

Width = Annotated[int, Ge(1)]


class VGG19(FiveLayers):
    """16 convolutions (3x3, batch norm, ReLU) in stages of 2, 2, 4, 4 and 4 with w, 2w, 4w, 8w and 8w channels, w = `width` (64 in
    full size), each ended by 2x2 max pooling that rounds up, so that 8x8 images end at 1x1. Layers 1 to 4: stages 1 to 4. Layer 5:
    stage 5, global average pooling and a linear layer to `penultimate` (512), without activation.
    20,297,674 parameters with colour, width 64, penultimate 512 and 10 classes.

    # MODIFIED: as usual for CIFAR, the two 4096-d layers with dropout are gone: 512 features, batch norm, and here the linear layer
    that all our networks have. Weights: He et al.'s normal by fan-out for convolutions, as in torchvision.
    """

    def __init__(self, classes: int, mean: Tensor, std: Tensor, *, width: Width, penultimate: Width) -> None:
        one, two, three, four = width, 2 * width, 4 * width, 8 * width
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                _stage(len(mean), one, 2),
                _stage(one, two, 2),
                _stage(two, three, 4),
                _stage(three, four, 4),
                nn.Sequential(_stage(four, four, 4), Average(), nn.Linear(four, penultimate)),
            ),
            dims=(one, two, three, four, penultimate),
            branches={},
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(channels: int, width: int, convolutions: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(convolutions):
        modules += [Convolution(channels, width), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*modules, nn.MaxPool2d(2, ceil_mode=True))
