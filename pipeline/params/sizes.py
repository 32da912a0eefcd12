"""Sizes that cannot work, seen before any data is read: of images and classes of the sets that everybody knows, and of memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from pipeline.params.choices import NetworkChoice, SourceChoice
    from pipeline.params.dataset import Dataset
    from pipeline.params.schema import Method

BYTES = 3 * 4  # a parameter in training: weight, gradient, momentum
USUAL_WIDTH, USUAL_ENSEMBLE = 1024, 10  # up to here any memory does; to count the weights takes up to a second


class Known(NamedTuple):
    """side: height and width of an image; train, test: how many there are."""

    side: int
    channels: int
    classes: int
    train: int
    test: int


PUBLIC = {
    "mnist": Known(28, 1, 10, 60_000, 10_000),
    "fashionmnist": Known(28, 1, 10, 60_000, 10_000),
    "cifar10": Known(32, 3, 10, 50_000, 10_000),
    "cifar100": Known(32, 3, 100, 50_000, 10_000),
    "svhn": Known(32, 3, 10, 73_257, 26_032),
}
DIGITS = 1797


def known_sizes(source: SourceChoice) -> Known | None:
    """None for a set that has to be read first."""
    if source.name == "sklearn_digits":
        fraction = source.options.get("test_fraction")
        if not isinstance(fraction, float) or not 0 < fraction < 1:
            return None  # which is said elsewhere
        test = math.ceil(DIGITS * fraction)
        return Known(8, 1, 10, DIGITS - test, test)
    if source.name in ("public_set", "torchvision"):
        return PUBLIC.get(str(source.options.get("dataset")).lower().replace("_", ""))
    return None


def size_problems(
    path: str, dataset: Dataset, methods: Mapping[str, Method], networks: Mapping[str, Callable[..., Any]]
) -> Iterator[str]:
    """One line a problem. methods: those that are trained on the data set. Without `networks` nothing is said of memory."""
    known, pad = known_sizes(dataset.source), dataset.training.augment.pad
    side = known.side if known else dataset.source.options.get("size")  # of a folder or of parquet files, which may say it
    if isinstance(side, int) and pad >= side:
        yield f"{path}.training.augment.pad: must be less than the {side} pixels of an image, got {pad}"
    for name, method in methods.items():
        if known and method.loss and method.loss.name == "adp" and method.ensemble >= known.classes:
            most = f"at most {known.classes - 1} networks on {known.classes} classes"
            yield f"methods.{name}.ensemble: loss adp takes {most}, got {method.ensemble}"
    largest: dict[str, int] = {}
    for method in methods.values():
        largest[method.network] = max(method.ensemble, largest.get(method.network, 0))
    for name, choice in dataset.networks.items():
        if choice.name in networks:
            yield from memory_problems(f"{path}.networks.{name}", choice, largest.get(name, 1), networks[choice.name], known)


def memory_problems(
    path: str, choice: NetworkChoice, ensemble: int, network: Callable[..., torch.nn.Module], known: Known | None
) -> list[str]:
    if ensemble <= USUAL_ENSEMBLE and _widest(choice.options) <= USUAL_WIDTH:
        return []
    needed, has = ensemble * training_memory(choice, network, known or PUBLIC["cifar10"]) / 2**30, machine_memory() / 2**30
    what = f"{ensemble} of it take" if ensemble > 1 else "it takes"
    return [f"{path}: {what} more than {needed:.3g} GiB of memory in training, this machine has {has:.3g}"] if needed > has else []


def _widest(options: Mapping[str, Any]) -> int:
    """The largest whole number in the options of a network."""
    values = [part for value in options.values() for part in (value if isinstance(value, list) else [value])]
    return max((value for value in values if isinstance(value, int)), default=0)


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
