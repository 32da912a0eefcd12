"""Images that are not of a source: one .npz of one's own, or arrays in memory."""

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import check_names
from pipeline.data.lfs import refuse_pointers

NAMES = {"images": ("images", "test_images", "x", "x_test", "X"), "labels": ("labels", "test_labels", "y", "y_test")}
ROUNDING = 1e-4  # of resizing, or of a normalisation that was undone


class Part(NamedTuple):
    """images: (N, C, H, W), uint8 or float32 in [0, 1]; labels: (N,) int64."""

    images: NDArray[Any]
    labels: NDArray[np.int64]


class Arrays(NamedTuple):
    """What to judge a model on; `train` and the names of the classes where they are known."""

    test: Part
    train: Part | None
    classes: list[str] | None


def read_arrays(path: str | Path) -> Arrays:
    """A .npz with `images` and `labels` (or test_images and test_labels, as the files of stage data have), where it has them also
    `train_images`, `train_labels` and `classes`. Runs no code from the file. Raises ValueError in one line."""
    path = Path(path)
    refuse_pointers([path])
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (ValueError, KeyError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is cut off, damaged or not a .npz of plain arrays ({error})") from None
    found = {kind: next((name for name in names if name in content), None) for kind, names in NAMES.items()}
    if None in found.values():
        raise ValueError(f"{path} needs arrays `images` and `labels`, it has {', '.join(content) or 'none'}")
    test = checked_part(content[str(found["images"])], content[str(found["labels"])], str(path))
    train = None
    if {"train_images", "train_labels"} <= set(content):
        train = checked_part(content["train_images"], content["train_labels"], f"{path}, train")
    check_shapes(test, train, f"{path}, train")
    classes = [str(name) for name in np.atleast_1d(content["classes"])] if "classes" in content else None
    if classes is not None:
        check_names(str(path), classes)
    return Arrays(test, train, classes)


def checked_part(images: NDArray[Any], labels: NDArray[Any], what: str) -> Part:
    """images: (N, C, H, W), (N, H, W, C) or (N, H, W) with 1 or 3 channels, uint8 or float in [0, 1]; what lies outside by rounding
    is clipped. Raises ValueError for another shape or range, in one line that names `what`."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"{what}: images must be (N, C, H, W), got {images.shape}")
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or labels.min() < 0:
        raise ValueError(f"{what}: labels must be {len(images)} whole numbers from 0 on, got {labels.dtype} {labels.shape}")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
        low, high = float(images.min()), float(images.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            found = f"{what}: images must be pixels in [0, 1] or uint8, got {low:.6g} to {high:.6g}"
            raise ValueError(f"{found}{_advice(low, high)}")
        images = images.clip(0, 1)
    return Part(np.ascontiguousarray(images), labels.astype(np.int64))


def _advice(low: float, high: float) -> str:
    if not np.isfinite([low, high]).all():
        return "; leave out those with numbers that are not finite"
    if low < 0:
        return "; undo their normalisation and give it as mean and std of the model"
    return next((f"; divide them by {most}" for most in (255, 65535) if 2 < high <= most), "")


def check_shapes(test: Part, train: Part | None, what: str) -> None:
    """Raises ValueError where `train` has images of another shape."""
    if train is not None and train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(f"{what}: images are {train.images.shape[1:]} (C, H, W), those to judge on {test.images.shape[1:]}")
