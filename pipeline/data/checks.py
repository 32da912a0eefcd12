"""What may be wrong with a data set as a whole, though every image of it can be read."""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labelled = tuple[NDArray[Any], NDArray[np.int64]]  # images (N, C, H, W), labels (N,)


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def check_classes(place: str, train: NDArray[np.int64], test: NDArray[np.int64], classes: Sequence[str]) -> None:
    """train, test: labels (N,). Raises ValueError for classes of one name, a single class, and a class to be tested that cannot be
    learnt; warns of classes without images."""
    if twice := sorted(name for name, count in Counter(classes).items() if count > 1):
        raise ValueError(f"{place}: several classes are called {', '.join(twice)}: give each its own name")
    in_train, in_test = (np.bincount(labels, minlength=len(classes)) > 0 for labels in (train, test))  # (K,)
    if in_train.sum() == 1:
        raise ValueError(f"{place}: all images in train are of one class, {_named(classes, in_train)}: it takes two to tell apart")
    if unlearnt := _named(classes, in_test & ~in_train):
        raise ValueError(f"{place}: no image in train, but in test, of {unlearnt}: add some or take the class out of test")
    if absent := _named(classes, ~in_train):
        warn(f"{place}: no image at all of {absent}, which count as classes all the same")
    if untested := _named(classes, in_train & ~in_test):
        warn(f"{place}: no image in test of {untested}")


def warn_of_doubles(place: str, train: Labelled, test: Labelled) -> None:
    """Warns of images that are alike to the last bit, in train and in test, or twice in one of them."""
    in_train, in_test = _digests(train[0]), _digests(test[0])
    label_in_train = dict(zip(in_train, train[1].tolist(), strict=True))
    shared = [label_in_train[image] == label for image, label in zip(in_test, test[1], strict=True) if image in label_in_train]
    if shared:
        other = f", {shared.count(False)} of them with another label" if False in shared else ""
        warn(f"{place}: {len(shared)} of {len(in_test)} images in test are in train too{other}")
    for name, images in {"train": in_train, "test": in_test}.items():
        if doubled := len(images) - len(set(images)):
            warn(f"{place}: {doubled} of {len(images)} images in {name} are there a second time")


def _digests(images: NDArray[Any]) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _named(classes: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, is_chosen in zip(classes, chosen, strict=True) if is_chosen)
