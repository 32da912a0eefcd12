"""Source public_set: the papers' data sets, from wherever the profile takes them."""

from pathlib import Path
from typing import Literal

from pipeline.data.checksums import verify_listed
from pipeline.data.image_set import ImageSet
from pipeline.data.parquet_files import parquet
from pipeline.data.shards import find_shards
from pipeline.data.torchvision_sets import torchvision

SUMS = "SHA256SUMS"
TORCHVISION: dict[str, Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST", "FashionMNIST"]] = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}


def public_set(
    *,
    dataset: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"],
    form: Literal["torchvision", "parquet"] = "torchvision",
    folder: str = "data/raw",
) -> tuple[ImageSet, ImageSet, list[str]]:
    """-> train, test, classes, as the sources torchvision, which downloads into `folder`, or parquet, with the files of the Hugging
    Face hub in folder/DATASET. `form` and `folder` are one value a profile: `images` in params.yaml.

    Parquet files must agree with what a SHA256SUMS in `folder` or folder/DATASET says of them."""
    if form == "torchvision":
        return torchvision(dataset=TORCHVISION[dataset], folder=folder)
    place = Path(folder).expanduser() / dataset
    files = str(place)
    for sums in (place.parent / SUMS, place / SUMS):
        if sums.is_file():
            verify_listed(sums, [*find_shards(files, "train"), *find_shards(files, "test")])
    return parquet(train=files, test=files, image_column=None, label_column=None, sha256sums=None)
