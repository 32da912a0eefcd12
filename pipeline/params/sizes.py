"""Sizes that cannot work, seen before any data is read: of images and classes of the sets that everybody knows, and of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from pipeline.params.choices import NetworkChoice, SourceChoice
    from pipeline.params.schema import Dataset, Method

BYTES = 3 * 4  # a parameter in training: weight, gradient, momentum


class Known(NamedTuple):
    """side: height and width of an image."""

    side: int
    channels: int
    classes: int


PUBLIC = {
    "mnist": Known(28, 1, 10),
    "fashionmnist": Known(28, 1, 10),
    "cifar10": Known(32, 3, 10),
    "cifar100": Known(32, 3, 100),
    "svhn": Known(32, 3, 10),
}


def known_sizes(source: SourceChoice) -> Known | None:
    """None for a set that has to be read first."""
    if source.name == "sklearn_digits":
        return Known(8, 1, 10)
    if source.name in ("public_set", "torchvision"):
        return PUBLIC.get(str(source.options.get("dataset")).lower().replace("_", ""))
    return None


def size_problems(
    path: str, dataset: Dataset, methods: Mapping[str, Method], networks: Mapping[str, Callable[..., Any]] | None
) -> Iterator[str]:
    """One line a problem. methods: those that are trained on the data set. Without `networks` nothing is said of memory."""
    known, pad = known_sizes(dataset.source), dataset.training.augment.pad
    if known and pad >= known.side:
        yield f"{path}.training.augment.pad: must be less than the {known.side} pixels of an image, got {pad}"
    for name, method in methods.items():
        if known and method.loss and method.loss.name == "adp" and method.ensemble >= known.classes:
            most = f"at most {known.classes - 1} networks on {known.classes} classes"
            yield f"methods.{name}.ensemble: loss adp takes {most}, got {method.ensemble}"
    if networks is None:
        return
    needed = {
        name: training_memory(choice, networks[choice.name], known or Known(32, 3, 10)) for name, choice in dataset.networks.items()
    }
    for name, one in needed.items():
        if one > machine_memory():
            yield f"{path}.networks.{name}: {_memory_text(one)}"
    for name, method in methods.items():
        one = needed.get(method.network, 0)
        if one <= machine_memory() < one * method.ensemble:
            yield f"methods.{name}.ensemble: {_memory_text(one * method.ensemble)}"


def training_memory(choice: NetworkChoice, network: Callable[..., torch.nn.Module], known: Known) -> float:
    """Bytes of one such network, without its feature maps. It is made of tensors without memory."""
    options = choice.options | ({"weights": "none"} if "weights" in choice.options else {})  # none to be downloaded
    try:
        with torch.device("meta"):
            made = network(known.classes, torch.zeros(known.channels), torch.ones(known.channels), **options)
    except RuntimeError:  # a layer has more weights than 64 bits can count
        return BYTES * 2.0**63
    return BYTES * float(sum(parameter.numel() for parameter in made.parameters()))


def machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_text(needed: float) -> str:
    return f"training takes more than {needed / 2**30:.3g} GiB of memory, this machine has {machine_memory() / 2**30:.3g}"
