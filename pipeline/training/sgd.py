"""Stochastic gradient descent with momentum, on torch's own kernel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

SETTINGS = ("lr", "momentum", "weight_decay")


class SGD:
    """As torch.optim.SGD, whose first call imports torch's compiler: as long as torch itself takes, in every process that trains.
    `param_groups`: dicts with `params`, `lr`, `momentum`, `weight_decay` and whatever else the caller keeps there."""

    def __init__(self, param_groups: Sequence[dict[str, Any]]) -> None:
        self.param_groups = [{**group, "params": list(group["params"])} for group in param_groups]
        self.momenta: dict[nn.Parameter, Tensor | None] = {p: None for group in self.param_groups for p in group["params"]}

    def zero_grad(self) -> None:
        for parameter in self.momenta:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        alike: dict[tuple[Any, ...], list[Any]] = {}  # groups with the same settings move together
        for group in self.param_groups:
            moving = alike.setdefault(tuple(group[name] for name in SETTINGS), [])
            moving += [p for p in group["params"] if p.grad is not None]
        for values, moved in alike.items():
            momenta, settings = [self.momenta[p] for p in moved], dict(zip(SETTINGS, values, strict=True))
            sgd(moved, [p.grad for p in moved], momenta, **settings, dampening=0.0, nesterov=False, maximize=False)
            self.momenta.update(zip(moved, momenta, strict=True))

    def state_dict(self) -> dict[str, list[Tensor | None]]:
        return {"momenta": list(self.momenta.values())}

    def load_state_dict(self, state: dict[str, list[Tensor | None]]) -> None:
        for parameter, momentum in zip(self.momenta, state["momenta"], strict=True):
            self.momenta[parameter] = None if momentum is None else momentum.to(parameter.device)
