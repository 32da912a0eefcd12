"""The bottleneck ResNet of the PCL paper for 32x32 images (table 1)."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from pipeline.models.network import Average, FiveLayers

Size = Annotated[int, Ge(1)]


class ResNet110(FiveLayers):
    """Layer 1: a 3x3 convolution to 16 channels. Layers 2 to 4: stages of `blocks` bottlenecks 16-16-64, 32-32-128 (stride 2) and
    64-64-256 (stride 2), global average pooling after the last. Layer 5: linear to `penultimate` (1024), without activation as in
    the released code. The branch of layer 3: global average pooling and a linear layer to `branch` (512).

    blocks: the network has nine times as many layers and two more. 12 is 110 layers, as in table 1; 18 is what the released code
    builds for depth 110; 3 are 29 layers, for a CPU. With colour, 10 classes, branch 512 and penultimate 1024: 1,484,634 parameters
    with 12 blocks, 2,041,050 with 18. Without the branch, which the release lacks: 1,418,586 and 1,975,002, its 1.98 M.

    # MODIFIED: the "(2x2)" behind table 1's first ReLU is left out; the released network pools nothing there.
    Weights: He et al.'s normal by fan-out for convolutions, as in CIFAR ResNets and the release; linear layers have PyTorch's
    default.
    """

    def __init__(self, classes: int, mean: Tensor, std: Tensor, *, blocks: Size, branch: Size, penultimate: Size) -> None:
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                nn.Sequential(nn.Conv2d(len(mean), 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)),
                stage(16, 16, blocks, stride=1),
                stage(64, 32, blocks, stride=2),
                nn.Sequential(stage(128, 64, blocks, stride=2), Average()),
                nn.Linear(256, penultimate),
            ),
            dims=(16, 64, branch, 256, penultimate),
            branches={"layer3": nn.Sequential(Average(), nn.Linear(128, branch))},
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """(B, channels, H, W) -> (B, 4 width, H / stride, W / stride). The first block's shortcut is a 1x1 convolution."""
    from torchvision.models.resnet import Bottleneck  # a second to import, which other networks need not spend

    shortcut = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
    first = Bottleneck(channels, width, stride, shortcut)
    return nn.Sequential(first, *(Bottleneck(4 * width, width) for _ in range(blocks - 1)))
