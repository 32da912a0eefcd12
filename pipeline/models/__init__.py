"""Networks by the name that params.yaml uses. Each takes (classes, mean, std, *, options)."""

from pipeline.models.conv6 import Conv6
from pipeline.models.network import Network
from pipeline.models.resnet101 import ResNet101
from pipeline.models.resnet110 import ResNet110
from pipeline.models.small_cnn import SmallCNN
from pipeline.models.vgg19 import VGG19

NETWORKS: dict[str, type[Network]] = {
    "small_cnn": SmallCNN,
    "conv6": Conv6,
    "resnet110": ResNet110,
    "resnet101": ResNet101,
    "vgg19": VGG19,
}
