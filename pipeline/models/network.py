"""What the pipeline asks of a network, and how those with the five layers of pcl table 1 answer it."""

from typing import ClassVar

from torch import Tensor, nn

from pipeline.models.normalize import Normalize

Features = dict[str, Tensor]  # layer name -> (B, D), from input to output


class Network(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> logits (B, K). LAYERS names the layers that a loss can be put on, `dims` has their widths D,
    `classes` is K.

    Losses never change a network: it predicts from its logits alone, so any library that attacks an `nn.Module` can attack it.
    """

    LAYERS: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4", "layer5")  # the same in all: methods fit them all
    dims: dict[str, int]
    classes: int

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        """One forward for both: logits (B, K) and the features of every layer in LAYERS."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The logits alone."""
        return self.forward_features(x)[0]


class FiveLayers(Network):
    """Normalize, five layers one after the other, a linear classifier (pcl table 1).

    `layers` lead to the logits; a layer's output is maps (B, D', H, W) or vectors (B, D), the last one vectors. A loss sees it
    through its branch, G_phi of pcl figure 3, on which the logits do not depend: `branches` has them for the layers that have one,
    else maps are averaged over the image and vectors taken as they are. `dims`: widths D of the features.
    """

    def __init__(
        self,
        classes: int,
        mean: Tensor,
        std: Tensor,
        layers: tuple[nn.Module, nn.Module, nn.Module, nn.Module, nn.Module],
        dims: tuple[int, int, int, int, int],
        branches: dict[str, nn.Module],
    ) -> None:
        super().__init__()
        self.classes = classes
        self.dims = dict(zip(self.LAYERS, dims, strict=True))
        self.normalize = Normalize(mean, std)
        self.layers = nn.ModuleDict(dict(zip(self.LAYERS, layers, strict=True)))
        self.branches = nn.ModuleDict(branches)
        self.classifier = nn.Linear(dims[-1], classes)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        features = {}
        x = self.normalize(x)
        for name, layer in self.layers.items():
            x = layer(x)
            if name in self.branches:
                features[name] = self.branches[name](x)
            else:
                features[name] = average(x) if x.ndim == 4 else x
        return self.classifier(x), features

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalize(x)  # without branches: attacks come here
        for layer in self.layers.values():
            x = layer(x)
        logits: Tensor = self.classifier(x)
        return logits


def average(x: Tensor) -> Tensor:
    """Global average pooling (GAP). (B, D, H, W) -> (B, D)."""
    return x.mean(dim=(2, 3))


class Average(nn.Module):
    """`average` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return average(x)
