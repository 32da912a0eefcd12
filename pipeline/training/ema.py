"""Exponential moving average of the weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


class MovingAverage(AveragedModel):
    """Exponential moving average of network and criterion, prototypes and all, so that the two fit each other:
    average <- d average + (1 - d) weights after every step, beginning with the weights after the first.

    d = min(decay, (1 + n) / (10 + n)) after n steps, as in TensorFlow's: a short training does not drag its first weights along.
    Buffers that are numbers, the statistics of batch norm, are averaged alike; counts are copied.
    """

    def __init__(self, network: nn.Module, criterion: nn.Module, decay: float) -> None:
        super().__init__(nn.ModuleDict({"network": network, "criterion": criterion}), use_buffers=True)
        self.decay = decay

    def update(self, network: nn.Module, criterion: nn.Module) -> None:
        n = int(self.n_averaged)  # on the CPU: nothing waits for the device
        blend = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))

        def average(averages: Tensors, latest: Tensors, n: Tensor | int) -> None:  # each of one dtype
            if averages[0].is_floating_point():
                blend(averages, latest, n)
            else:
                torch._foreach_copy_(averages, latest)

        self.multi_avg_fn = average
        self.update_parameters(nn.ModuleDict({"network": network, "criterion": criterion}))
