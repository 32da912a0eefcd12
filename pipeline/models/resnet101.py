"""torchvision's ResNet-101 with the five layers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from pipeline.models.network import Average, FiveLayers

Width = Annotated[int, Ge(1)]


class ResNet101(FiveLayers):
    """Layer 1: the stem (7x7 convolution, stride 2, and max pooling) and stage 1. Layers 2 to 4: stages 2 to 4 (512, 1024, 2048
    channels), global average pooling after the last. Layer 5: linear to `penultimate`, without activation. The branch of layer 3:
    global average pooling and a linear layer to `branch`. The image shrinks to a 32nd, so 32x32 has 1x1 maps at layer 4.

    weights: none (He et al.'s normal by fan-out) or imagenet (torchvision's IMAGENET1K_V1, from torch hub's folder or downloaded;
    raises ValueError when neither works). Images are normalised by their own mean and std, not ImageNet's: training goes on anyway.
    Grey: the stem's weights are summed over the colours, which is the network on the image repeated to three channels.
    """

    def __init__(
        self,
        classes: int,
        mean: Tensor,
        std: Tensor,
        *,
        weights: Literal["none", "imagenet"],
        branch: Width,
        penultimate: Width,
    ) -> None:
        net = _torchvision_resnet101(weights)
        if len(mean) == 1:
            net.conv1.weight = nn.Parameter(net.conv1.weight.detach().sum(1, keepdim=True))
            net.conv1.in_channels = 1
        super().__init__(
            classes,
            mean,
            std,
            layers=(
                nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1),
                net.layer2,
                net.layer3,
                nn.Sequential(net.layer4, Average()),
                nn.Linear(2048, penultimate),
            ),
            dims=(256, 512, branch, 2048, penultimate),
            branches={"layer3": nn.Sequential(Average(), nn.Linear(1024, branch))},
        )


def _torchvision_resnet101(weights: Literal["none", "imagenet"]) -> Any:
    from torchvision.models import ResNet101_Weights, resnet101  # a second to import, which other networks need not spend

    net = resnet101(weights=None)
    if weights == "imagenet":
        url = ResNet101_Weights.IMAGENET1K_V1.url
        file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
        try:
            state = ResNet101_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        except Exception as error:  # no network, a wrong hash, a damaged file: what to do is the same
            raise ValueError(
                f"network.weights: imagenet needs {file}, which could not be downloaded or read ({type(error).__name__}: {error}): "
                f"fetch {url} where there is a network and put it there, or set weights: none"
            ) from error
        net.load_state_dict(state)
    return net
