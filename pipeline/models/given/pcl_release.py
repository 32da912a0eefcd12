"""The network of the released PCL code, by the names of its weights, so that its checkpoints load as they are."""

from torch import Tensor, nn

from pipeline.models.network import Features, Network, average
from pipeline.models.resnet110 import stage

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # with which the release normalises CIFAR-10 before the model


class PCLRelease(Network):
    """ResNet with 18 bottlenecks a stage, as https://github.com/aamir-mustafa/pcl-adversarial-defense builds it for depth 110:
    1,975,002 parameters with 10 classes. Normalised images (B, 3, 32, 32) -> logits (B, K). Features: layer3 (128, largest value of
    each map), layer4 (256, `z` there) and layer5 (1024, `x` there), the last two with the prototypes, which the release does not
    have in its files.
    """

    LAYERS = ("layer3", "layer4", "layer5")

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.classes = classes
        self.dims = {"layer3": 128, "layer4": 256, "layer5": 1024}
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            stage(16, 16, 18, stride=1),
            stage(64, 32, 18, stride=2),
            stage(128, 64, 18, stride=2),
        )
        self.fc = nn.Linear(256, 1024)
        self.fcf = nn.Linear(1024, classes)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        x = self.layer1(self.bn1(self.conv1(x)).relu())
        x = self.layer2(x)
        layer3 = x.amax(dim=(2, 3))  # (B, 128)
        layer4 = average(self.layer3(x))  # (B, 256)
        layer5 = self.fc(layer4)  # (B, 1024)
        return self.fcf(layer5), {"layer3": layer3, "layer4": layer4, "layer5": layer5}
