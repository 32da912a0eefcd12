"""A network in bf16, for attacks: faster where the hardware supports it."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from pipeline.models.network import Features


class Half(nn.Module):
    """`network` under bf16 autocast, with the weights that it has now. Its outputs are float32, so that nothing else is computed in
    bf16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.PReLU):  # once; autocast would cast in every forward
                module.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits: Tensor = self.network(x)
        return logits.float()

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self.network.forward_features(x)  # type: ignore[operator]
        return logits.float(), {name: feature.float() for name, feature in features.items()}
