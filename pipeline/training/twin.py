"""Attacks in training work on a faster twin of the network."""

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
        self.folded: Folded | None = None
        self.twin: nn.Module | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        if self.folded is None or self.folded.model is not model:
            with torch.autocast(x.device.type, enabled=False):
                self.folded = Folded(model, x[:2])
            self.twin = replayed(self.folded.twin, x.device)
        assert self.twin is not None
        self.folded.now()
        return self.adversary(self.twin, x, y, generator)
