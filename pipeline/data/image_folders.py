"""Source image_folder: your own images, one folder a class."""

import os
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from pipeline.data.checks import check_classes
from pipeline.data.class_folders import list_images
from pipeline.data.decoding import Channels, decode, stack
from pipeline.data.image_set import ImageSet


def image_folder(*, folder: str, size: Annotated[int, Ge(1)] | None, channels: Channels) -> tuple[ImageSet, ImageSet, list[str]]:
    """Reads folder/train/CLASS/* and folder/test/CLASS/* -> train, test, classes; images (N, channels, H, W), as `decode`
    reads them.

    `size` null: all images must have one size; else each is resized (bilinear) to size x size. Raises ValueError for a missing
    folder, classes that differ, files that cannot be decoded, all by name, and images of different sizes.
    """
    place = Path(folder).expanduser()
    train, test = list_images(place / "train"), list_images(place / "test")
    if train.classes != test.classes:
        differ = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise ValueError(f"{folder}: train and test must have the same class folders, only one of them has {differ}")
    check_classes(folder, train.labels, test.labels, train.classes)
    images, count = _read(folder, [*train.paths, *test.paths], size, channels), len(train.paths)  # one pass names all that is wrong
    return ImageSet(images[:count], train.labels), ImageSet(images[count:], test.labels), train.classes


def _read(folder: str, paths: list[Path], size: int | None, channels: Channels) -> NDArray[np.uint8]:
    from tqdm import tqdm

    with ThreadPool(max(2, os.cpu_count() or 2)) as pool:
        read = pool.imap(partial(_decoded, size=size, channels=channels), paths)
        shown = tqdm(read, total=len(paths), desc=folder, unit="img", disable=None)
        return stack(zip(map(str, paths), shown, strict=True), len(paths))


def _decoded(path: Path, size: int | None, channels: Channels) -> NDArray[np.uint8] | ValueError:
    try:
        return decode(path.read_bytes(), channels=channels, size=size)
    except OSError as error:
        return ValueError(f"cannot be read, {error.strerror}")
    except ValueError as error:
        return error
