"""Source torchvision: the public sets that torchvision downloads and knows the checksums of."""

import http.client
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.data.downloads import fetch
from pipeline.data.image_set import ImageSet

FAILURES = (RuntimeError, OSError, ValueError, AssertionError, EOFError, http.client.HTTPException)


class Download(NamedTuple):
    path: Path
    urls: list[str]
    md5: str


def torchvision(
    *, dataset: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST", "FashionMNIST"], folder: str
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Downloads into `folder` what is not there yet and reads it -> train, test, classes; images (N, C, H, W). A folder that has
    the downloads, or CIFAR unpacked, is only read.

    Raises ValueError that says what to do when the download fails or a file has the wrong checksum.
    """
    from torchvision import datasets

    kinds: dict[str, Any] = {
        "CIFAR10": datasets.CIFAR10,
        "CIFAR100": datasets.CIFAR100,
        "SVHN": datasets.SVHN,
        "MNIST": datasets.MNIST,
        "FashionMNIST": datasets.FashionMNIST,
    }
    kind, place = kinds[dataset], Path(folder).expanduser()
    downloads = _downloads(dataset, kind, place)
    try:
        with TemporaryDirectory() as unpacked:
            root = _ready(dataset, kind, place, downloads, Path(unpacked))
            if dataset == "SVHN":
                parts = [kind(root, split=split) for split in ("train", "test")]
            else:
                parts = [kind(root, train=train) for train in (True, False)]
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"torchvision could not get {dataset} into {folder}: {reason}; {_advice(downloads)}") from error
    train, test = (_image_set(dataset, part) for part in parts)
    return train, test, [str(k) for k in range(10)] if dataset == "SVHN" else list(parts[0].classes)


def _downloads(dataset: str, kind: Any, folder: Path) -> list[Download]:
    """The files that torchvision downloads for this set."""
    match dataset:
        case "SVHN":
            return [Download(folder / name, [url], md5) for url, name, md5 in (kind.split_list[part] for part in ("train", "test"))]
        case "MNIST" | "FashionMNIST":
            raw = folder / dataset / "raw"
            return [Download(raw / name, [f"{mirror}{name}" for mirror in kind.mirrors], md5) for name, md5 in kind.resources]
        case _:
            return [Download(folder / kind.filename, [kind.url], kind.tgz_md5)]


def _ready(dataset: str, kind: Any, folder: Path, downloads: list[Download], unpacked: Path) -> Path:
    """-> where torchvision finds the set without a download. Unpacked files are used where torchvision has checksums for them, for
    CIFAR alone; else the downloads are unpacked anew, elsewhere: the folder may be shared or read-only."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    if dataset.startswith("CIFAR"):
        members = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        if all(check_integrity(folder / kind.base_folder / name, md5) for name, md5 in members):
            return folder
    for path, urls, md5 in downloads:
        fetch(path, urls, md5)
    if dataset == "SVHN":
        return folder
    for path, _, _ in downloads:
        to = unpacked / path.parent.relative_to(folder)
        to.mkdir(parents=True, exist_ok=True)
        extract_archive(path, to)
    return unpacked


def _advice(downloads: list[Download]) -> str:
    absent = [path for path, _, _ in downloads if not path.is_file()]
    advice = [f"without network put {', '.join(map(str, absent))} there yourself"] if absent else []
    if any(path.with_suffix("").is_file() for path in absent):
        advice.append("what is unpacked beside them has no checksum and is not used")
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
