"""VGG-19 with batch norm (Simonyan & Zisserman, arXiv:1409.1556, configuration E) in its usual form for small images."""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from pipeline.models.network import Average, FiveLayers

Width = Annotated[int, Ge(1)]


class VGG19(FiveLayers):
    """16 convolutions (3x3, batch norm, ReLU) in stages of 2, 2, 4, 4 and 4 with w, 2w, 4w, 8w and 8w channels, w = `width` (64 in
    full size). 2x2 max pooling, which rounds up, ends the first `poolings` stages: 5 in full size, fewer for small images, so that
    their maps do not shrink to a pixel. Layers 1 to 4: stages 1 to 4. Layer 5: stage 5, global average pooling and a linear layer
    to `penultimate` (512), without activation. 20,297,674 parameters with colour, width 64, penultimate 512 and 10 classes.

    # MODIFIED: as usual for CIFAR, the two 4096-d layers with dropout are gone: 512 features, batch norm, and here the linear layer
    that all our networks have. Weights: He et al.'s normal by fan-out for convolutions, as in torchvision.
    """

    def __init__(
        self,
        classes: int,
        mean: Tensor,
        std: Tensor,
        *,
        width: Width,
        poolings: Annotated[int, Ge(0), Le(5)],
        penultimate: Width,
    ) -> None:
        one, two, three, four = width, 2 * width, 4 * width, 8 * width
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                _stage(len(mean), one, 2, pool=poolings >= 1),
                _stage(one, two, 2, pool=poolings >= 2),
                _stage(two, three, 4, pool=poolings >= 3),
                _stage(three, four, 4, pool=poolings >= 4),
                nn.Sequential(_stage(four, four, 4, pool=poolings >= 5), Average(), nn.Linear(four, penultimate)),
            ),
            dims=(one, two, three, four, penultimate),
            branches={},
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(channels: int, width: int, convolutions: int, *, pool: bool) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(convolutions):
        modules += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    if pool:
        modules.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*modules)
