"""Source torchvision: the public sets that torchvision downloads and knows the checksums of."""

import http.client
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.data.image_set import ImageSet

Checksums = list[tuple[Path, str]]  # downloaded file, its MD5
FAILURES = (RuntimeError, OSError, ValueError, AssertionError, EOFError, http.client.HTTPException)


def torchvision(
    *, dataset: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST", "FashionMNIST"], folder: str
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Downloads into `folder` what is not there yet and reads it -> train, test, classes; images (N, C, H, W).

    Raises ValueError that says what to do when the download fails or a file has the wrong checksum; a download that was cut off
    is removed.
    """
    from torchvision import datasets

    kinds: dict[str, Any] = {
        "CIFAR10": datasets.CIFAR10,
        "CIFAR100": datasets.CIFAR100,
        "SVHN": datasets.SVHN,
        "MNIST": datasets.MNIST,
        "FashionMNIST": datasets.FashionMNIST,
    }
    kind = kinds[dataset]
    downloads = _downloads(dataset, kind, Path(folder).expanduser())
    already_there = [path for path, _ in downloads if path.is_file()]
    try:
        if dataset == "SVHN":
            parts = [kind(folder, split=split, download=True) for split in ("train", "test")]
        else:
            _drop_unpacked(downloads)
            parts = [kind(folder, train=train, download=True) for train in (True, False)]
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = _clean_up(downloads, already_there, folder)
        raise ValueError(f"torchvision could not get {dataset} into {folder} ({reason}): {advice}") from error
    train, test = (_image_set(dataset, part) for part in parts)
    return train, test, [str(k) for k in range(10)] if dataset == "SVHN" else list(parts[0].classes)


def _downloads(dataset: str, kind: Any, folder: Path) -> Checksums:
    """The files that torchvision downloads for this set."""
    match dataset:
        case "SVHN":
            return [(folder / kind.split_list[split][1], kind.split_list[split][2]) for split in ("train", "test")]
        case "MNIST" | "FashionMNIST":
            return [(folder / dataset / "raw" / name, md5) for name, md5 in kind.resources]
        case _:
            return [(folder / kind.filename, kind.tgz_md5)]


def _drop_unpacked(downloads: Checksums) -> None:
    """Has the MNIST family unpacked again where all archives are at hand: torchvision has no checksums for the unpacked files, so
    it would trust one that an interrupted run left half written."""
    from torchvision.datasets.utils import check_integrity

    unpacked = [path.with_suffix("") for path, _ in downloads if path.name.endswith("-ubyte.gz")]
    if unpacked and all(check_integrity(path, md5) for path, md5 in downloads):
        for path in unpacked:
            path.unlink(missing_ok=True)


def _clean_up(downloads: Checksums, already_there: list[Path], folder: str) -> str:
    """Removes what this run downloaded with a wrong checksum -> what the user can do."""
    from torchvision.datasets.utils import check_integrity

    damaged = [path for path, md5 in downloads if path.is_file() and not check_integrity(path, md5)]
    for path in damaged:
        if path not in already_there:
            path.unlink()
    advice = [f"delete {path}, its checksum is wrong" for path in damaged if path in already_there]
    if len(advice) < len(damaged):
        advice.append("the download was cut off or altered and is removed; run again")
    if not damaged and all(path.is_file() for path, _ in downloads):
        advice.append(f"its downloads are intact; delete what was unpacked beside them in {folder} and run again")
    elif not damaged:
        names = ", ".join(str(path) for path, _ in downloads)
        advice.append(f"delete what is unpacked there if it is damaged; without network put {names} there yourself")
    return "; ".join([*advice, "or fetch the set's parquet files from the Hugging Face hub and use source parquet"])


def _image_set(dataset: str, part: Any) -> ImageSet:
    match dataset:
        case "SVHN":
            images, labels = part.data, part.labels
        case "MNIST" | "FashionMNIST":
            images, labels = part.data.numpy()[:, None], part.targets.numpy()
        case _:
            images, labels = part.data.transpose(0, 3, 1, 2), part.targets  # (N, H, W, C) -> (N, C, H, W)
    return ImageSet(np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64))
