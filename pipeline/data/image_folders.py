"""Source image_folder: your own images, one folder a class."""

import os
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet


def image_folder(
    *, folder: str, size: Annotated[int, Ge(1)] | None, channels: Literal[1, 3]
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Reads folder/train/CLASS/* and folder/test/CLASS/* -> train, test, classes; images (N, channels, H, W).

    `size` null: all images must have one size; else each is resized (bilinear) to size x size. Raises ValueError for a missing
    folder, classes that differ, a file that cannot be decoded, and images of different sizes.
    """
    train, train_classes = _read(Path(folder) / "train", size, channels)
    test, test_classes = _read(Path(folder) / "test", size, channels)
    if train_classes != test_classes:
        differ = ", ".join(sorted(set(train_classes) ^ set(test_classes)))
        raise ValueError(f"{folder}: train and test must have the same class folders, only one of them has {differ}")
    return train, test, train_classes


def _read(folder: Path, size: int | None, channels: int) -> tuple[ImageSet, list[str]]:
    from torchvision.datasets import ImageFolder
    from tqdm import tqdm

    try:
        found = ImageFolder(str(folder))
    except OSError as error:
        raise ValueError(f"{folder} must hold a folder of images for each class: {error}") from error
    labels = np.array(found.targets, dtype=np.int64)
    paths = [Path(path) for path, _ in found.samples]
    images: NDArray[np.uint8] | None = None
    decode = partial(_decode, size=size, channels=channels)
    with ThreadPool(max(2, os.cpu_count() or 2)) as pool:
        for i, image in enumerate(tqdm(pool.imap(decode, paths), total=len(paths), desc=str(folder), unit="img", disable=None)):
            if images is None:
                images = np.empty((len(paths), *image.shape), dtype=np.uint8)  # (N, C, H, W)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"{paths[i]} is {image.shape[2]}x{image.shape[1]}, {paths[0]} {images.shape[3]}x{images.shape[2]}: "
                    "all images must have one size; set `size` to resize them"
                )
            images[i] = image
    assert images is not None  # ImageFolder refuses a folder without images
    return ImageSet(images, labels), found.classes


def _decode(path: Path, size: int | None, channels: int) -> NDArray[np.uint8]:
    """-> (channels, H, W) uint8."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(f"{path} cannot be decoded ({error}): replace it or take it out") from error
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
