"""What the pipeline asks of a network."""

from typing import ClassVar

from torch import Tensor, nn

Features = dict[str, Tensor]  # layer name -> (B, D), from input to output


class Network(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> logits (B, K). LAYERS names the layers that a loss can be put on, `dims` has their widths D.

    Losses never change a network: it predicts from its logits alone, so any library that attacks an `nn.Module` can attack it.
    """

    LAYERS: ClassVar[tuple[str, ...]]
    dims: dict[str, int]

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        """One forward for both: logits (B, K) and the features of every layer in LAYERS."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0]
