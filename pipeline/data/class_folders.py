"""What is in a folder of class folders: images by class, and what is no image."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import check_names, warn

# Formats that Pillow knows, but cannot read by itself: a plot or film among the images is passed over
UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
NAMED = 5  # of the files that are passed over


class Listing(NamedTuple):
    """Class after class, and by file name within each. labels: (N,)"""

    classes: list[str]
    paths: list[Path]
    labels: NDArray[np.int64]


def list_images(folder: Path) -> Listing:
    """folder/CLASS/**/* -> its images, by their extension in any case; hidden files and folders count for nothing, other files are
    named in a warning. Raises ValueError for a folder without class folders, and for class folders without images, of one name, or
    that are one folder."""
    if not folder.is_dir() or not (found := [path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name)]):
        raise ValueError(f"{folder} must hold a folder of images for each class")
    # macOS spells ü in two characters, Linux in one: names are compared, sorted and kept in the form of one
    folders = sorted((unicodedata.normalize("NFC", path.name), path) for path in found)
    _check_names(folder, folders)
    extensions = image_extensions()
    paths, labels, others = list[Path](), list[int](), [path for path in folder.iterdir() if not path.is_dir()]
    for label, (_, place) in enumerate(folders):
        files = list(walk(place))
        images = [path for path in files if path.suffix.lower() in extensions]
        paths += images
        labels += [label] * len(images)
        others += [path for path in files if path.suffix.lower() not in extensions]
    _warn_of_others(folder, [path for path in others if not _hidden(path.name)])
    if empty := sorted(set(range(len(folders))) - set(labels)):
        names = ", ".join(folders[label][0] for label in empty)
        raise ValueError(f"{folder}: no image of {names}: add some or remove the folder")
    return Listing([name for name, _ in folders], paths, np.array(labels, dtype=np.int64))


def image_extensions() -> set[str]:
    """In lower case, with the dot."""
    from PIL import Image

    return {extension for extension, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in UNREADABLE}


def walk(folder: Path) -> Iterator[Path]:
    """The files below, folder by folder and by name, links followed: each folder once, and none of those above."""
    seen = {folder.resolve(), *folder.resolve().parents}
    places = []
    extensions = image_extensions()
    for place, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        if odd := [name for name in folders if not _hidden(name) and Path(name).suffix.lower() in extensions]:
            raise ValueError(f"{Path(place, min(odd))} is a folder, by its name an image: rename it or bring the image back")
        below = {Path(place, name).resolve(): name for name in sorted(folders, reverse=True) if not _hidden(name)}
        folders[:] = sorted(name for target, name in below.items() if target not in seen)  # in place: where os.walk goes on
        seen |= set(below)
        places.append((place, sorted(name for name in files if not _hidden(name))))
    for place, files in sorted(places):
        yield from (Path(place, name) for name in files)


def _unreadable(error: OSError) -> None:
    """Without this, os.walk goes on as if the folder were empty."""
    raise ValueError(f"{error.filename} cannot be read ({error.strerror}): change its permissions or remove it")


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _check_names(folder: Path, folders: Sequence[tuple[str, Path]]) -> None:
    check_names(str(folder), [name for name, _ in folders])
    targets: dict[Path, str] = {}
    for name, path in folders:
        if (other := targets.setdefault(path.resolve(), name)) != name:
            raise ValueError(f"{folder}: {other} and {name} are one folder, but an image is of one class: remove the link")


def _warn_of_others(folder: Path, others: Sequence[Path]) -> None:
    if others:
        kinds = Counter(path.suffix.lower() or "no extension" for path in others)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        names = ", ".join(str(path.relative_to(folder)) for path in others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        warn(f"{folder}: passed over {len(others)} files that are no images by their extension ({counts}): {names}")
