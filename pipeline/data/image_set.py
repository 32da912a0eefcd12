"""What a data set is once it is read, and the one file that holds it."""

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images: (N, C, H, W) uint8, C is 1 or 3; labels: (N,) int64, not negative. Raises ValueError for anything else."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
            raise ValueError(f"images must be uint8 (N, 1 or 3, H, W) and not empty, got {images.dtype} {images.shape}")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1] or labels.min() < 0:
            raise ValueError(f"labels must be int64 ({len(images)},), none negative, got {labels.dtype} {labels.shape}: {labels}")


Source = Callable[..., tuple[ImageSet, ImageSet, list[str]]]  # keyword-only options -> train, test, class names


@dataclass(frozen=True, eq=False)
class Splits:
    """Three sets of the same image shape. classes: K different names, one a label; mean, std: (C,) float64 of the train split's
    pixels in [0, 1], what the first layer of a model takes. Raises ValueError where these do not fit together."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: list[str]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.train.images.shape[1:]
        for name, part in self.parts().items():
            if part.images.shape[1:] != shape:
                raise ValueError(f"images (C, H, W) must have one shape: train has {shape}, {name} {part.images.shape[1:]}")
            if part.labels.max() >= len(self.classes):
                raise ValueError(f"{name} has label {part.labels.max()}, but there are {len(self.classes)} classes")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"class names must differ, got {self.classes}")
        if self.mean.shape != shape[:1] or self.std.shape != shape[:1] or not (self.std > 0).all():
            raise ValueError(f"mean and std must be ({shape[0]},) and std above 0, got mean {self.mean}, std {self.std}")

    def parts(self) -> dict[str, ImageSet]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


def save_splits(path: str | Path, splits: Splits) -> None:
    """Writes one .npz with the name of the data set, that of the file, whole or not at all; the same content gives the same bytes.
    Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"name": np.array(path.stem), "classes": np.array(splits.classes, dtype=np.str_)}
    arrays |= {"mean": splits.mean, "std": splits.std}
    for name, part in splits.parts().items():
        arrays |= {f"{name}_images": part.images, f"{name}_labels": part.labels}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same folder, so that the rename is atomic
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_splits(path: str | Path) -> Splits:
    """Reads what save_splits wrote; runs no code from the file. Raises ValueError that says how to get a good file, for one with a
    changed bit and for that of another data set too."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: bring it back with `dvc checkout`, or make it with `dvc repro`")
    try:
        with path.open("rb") as file:
            return _read_splits(file, path.stem)
    except Exception as error:  # zipfile, zlib and NumPy raise what they like, by the kind of damage
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is cut off, damaged or not made by stage data ({reason}): "
            "delete it, then bring it back with `dvc checkout`, or make it with `dvc repro`"
        ) from error


def _read_splits(file: BinaryIO, name: str) -> Splits:
    content = np.load(file, allow_pickle=False)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise ValueError("one bare array")
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():  # NumPy checks no checksum of an array that it does not read to its end
            raise ValueError(f"the checksum of {damaged} is wrong")
    if str(content["name"]) != name:
        raise ValueError(f"it is the data set {content['name']}")
    train, validation, test = (
        ImageSet(content[f"{part}_images"], content[f"{part}_labels"]) for part in ("train", "validation", "test")
    )
    return Splits(train, validation, test, content["classes"].tolist(), content["mean"], content["std"])
