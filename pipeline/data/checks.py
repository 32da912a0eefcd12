"""What may be wrong with a data set as a whole, though every image of it can be read."""

import hashlib
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labelled = tuple[NDArray[Any], NDArray[np.int64]]  # images (N, C, H, W), labels (N,)

LONGEST = 255  # characters of a class name, as most file systems allow a folder
NAMED = 10  # of the classes whose names are refused
NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: control characters, lone surrogates, line and paragraph separators
DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder the text beside them
INVISIBLE = {"Zs", "Cf"}  # spaces and joiners: scripts need them in a name, but it is not made of them alone


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def check_names(place: str, classes: Sequence[str]) -> None:
    """place: what the error names. Raises ValueError for class names that a line of a table or picture cannot show, and for two
    that look alike. Names in any script are allowed."""
    if odd := [f"{label} is called {_shown(name)}" for label, name in enumerate(classes) if not _is_name(name)]:
        more = f", and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise ValueError(
            f"{place}: class {', '.join(odd[:NAMED])}{more}: a name has 1 to {LONGEST} characters of any script, at least one "
            "visible, and no line breaks, control characters, controls of text direction or lone surrogates: rename the class"
        )
    # ü may be one character, or u and two dots, which look the same
    spelt = Counter(unicodedata.normalize("NFC", name) for name in classes)
    if twice := sorted(name for name, count in spelt.items() if count > 1):
        more = f" and {len(twice) - NAMED} more" if len(twice) > NAMED else ""
        raise ValueError(
            f"{place}: several classes are called {', '.join(twice[:NAMED])}{more}, perhaps in different code points: "
            "give each its own name or join them"
        )


def check_classes(place: str, train: NDArray[np.int64], test: NDArray[np.int64], classes: Sequence[str]) -> None:
    """train, test: labels (N,). Raises ValueError for names that `check_names` refuses, a single class, and a class to be tested
    that cannot be learnt; warns of classes without images."""
    check_names(place, classes)
    in_train, in_test = (np.bincount(labels, minlength=len(classes)) > 0 for labels in (train, test))  # (K,)
    if in_train.sum() == 1:
        raise ValueError(f"{place}: all training images are of one class, {_named(classes, in_train)}: at least two are needed")
    if unlearnt := _named(classes, in_test & ~in_train):
        raise ValueError(f"{place}: classes in test without training images: {unlearnt}; add some or remove the class from test")
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


def _is_name(name: str) -> bool:
    kinds = {unicodedata.category(char) for char in name}
    return len(name) <= LONGEST and not kinds <= INVISIBLE and not kinds & NO_TEXT and not DIRECTION & set(name)


def _shown(name: str) -> str:
    """In ASCII and not too long, whatever it holds."""
    return ascii(name[:40]) + (f"... ({len(name)} characters)" if len(name) > 40 else "")


def _digests(images: NDArray[Any]) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _named(classes: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, is_chosen in zip(classes, chosen, strict=True) if is_chosen)
