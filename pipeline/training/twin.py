"""Attacks in training work on a faster copy of the network, its twin: batch norm is folded into the convolutions."""

import torch
from torch import Generator, Tensor, nn

from pipeline.models.folded import Folded
from pipeline.models.replayed import replayed
from pipeline.training.adversary import Adversary


class OnTwin:
    """The adversary, which uses the model in eval mode only, on a twin of it with batch norm folded away. What can be folded is
    found at the first batch, in full precision."""

    def __init__(self, adversary: Adversary) -> None:
        self.adversary = adversary
        self.found: tuple[Folded, nn.Module] | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        if self.found is None or self.found[0].model is not model:
            with torch.autocast(x.device.type, enabled=False):
                folded = Folded(model, x[:2])
            self.found = folded, replayed(folded.twin, x.device)
        folded, twin = self.found
        folded.now()
        return self.adversary(twin, x, y, generator)
