"""SGD with settings of their own for the network and for each kind of prototype."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD

from pipeline.runtime.distributed import sum_over_ranks, world_size

Settings = Mapping[str, Any]  # lr, momentum, weight_decay, milestones, gamma, clip (may be left out)


def build_optimizer(
    weights: Iterable[nn.Parameter],
    prototypes: Mapping[str, list[nn.Parameter]],
    settings: Settings,
    prototype_settings: Mapping[str, Settings],
) -> SGD:
    """One parameter group, `network`, for the weights of network and auxiliary classifiers, and one for each name in `prototypes`.

    Raises ValueError when `prototype_settings` does not name exactly the prototypes that the loss has.
    """
    if set(prototypes) != set(prototype_settings):
        raise ValueError(
            f"prototypes: the loss has {', '.join(prototypes) or 'none'}, "
            f"settings are given for {', '.join(prototype_settings) or 'none'}"
        )
    groups = [{"params": list(weights), "name": "network", **settings}]
    groups += [{"params": prototypes[name], "name": name, **prototype_settings[name]} for name in prototypes]
    return SGD([{**group, "base_lr": group["lr"]} for group in groups], lr=0.0)  # each group has its own rate


def sum_gradients(network: nn.Module, criterion: nn.Module) -> None:
    """Over the ranks, of which each has the network's gradients of its part of the batch and the criterion's of all of it. The
    latter are summed too and divided, so that prototypes stay the same, bit by bit, where two devices do not round alike."""
    if world_size() == 1:
        return
    parts, wholes = ([p.grad for p in module.parameters() if p.grad is not None] for module in (network, criterion))
    for gradient in wholes:
        gradient.div_(world_size())
    sum_over_ranks([*parts, *wholes])


def clip_gradients(optimizer: SGD) -> None:
    """Clips the gradient norm of each group that has a `clip`. Does not wait for the device."""
    for group in optimizer.param_groups:
        if group.get("clip") is not None:
            nn.utils.clip_grad_norm_(group["params"], group["clip"])


def reached(milestone: float, epoch: int, epochs: int) -> bool:
    """Whether `epoch` (from 0) of `epochs` is at the milestone or past it, which is a fraction of the epochs below 1, else an
    epoch."""
    return epoch >= (round(milestone * epochs, 6) if milestone < 1 else milestone)


def scheduled_lr(base_lr: float, milestones: Sequence[float], gamma: float, epoch: int, epochs: int) -> float:
    """The rate in `epoch` (from 0) of `epochs`: times gamma for every milestone reached."""
    return float(base_lr * gamma ** sum(reached(milestone, epoch, epochs) for milestone in milestones))


def set_learning_rates(optimizer: SGD, epoch: int, epochs: int) -> None:
    """Puts every group on its schedule for `epoch`."""
    for group in optimizer.param_groups:
        group["lr"] = scheduled_lr(group["base_lr"], group["milestones"], group["gamma"], epoch, epochs)
