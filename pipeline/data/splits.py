"""Samples of a data set, the validation split, and the statistics of the train split that models normalise with."""

from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet, Splits

CHUNK = 1000  # images counted at a time: np.bincount needs 8 bytes a pixel


class Sample(TypedDict):
    """How many images of a data set are used: all, or a stratified random sample drawn with `seed`."""

    train: int | Literal["all"]
    test: int | Literal["all"]
    seed: int


def make_splits(train: ImageSet, test: ImageSet, classes: list[str], *, fraction: float, seed: int, sample: Sample) -> Splits:
    """Draws the sample, then takes the validation split from the training images; mean and std are those of what is left.

    Training images stay in the source's order. Test images are put in `stratified_order`, so the first N of them are a stratified
    random sample, whatever N.
    """
    drawn = np.arange(len(train.labels))
    if sample["train"] != "all":
        drawn = np.sort(stratified_order(train.labels, sample["seed"])[: _checked("train", sample["train"], train.labels)])
    kept, validation = split_validation(_take(train, drawn), fraction, seed)
    mean, std = channel_statistics(kept.images)
    order = stratified_order(test.labels, sample["seed"])
    if sample["test"] != "all":
        order = order[: _checked("test", sample["test"], test.labels)]
    return Splits(kept, validation, _take(test, order), classes, mean, std)


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """labels: (N,) -> a random order (N,) of which every prefix is stratified: the number of images of a class in it is its share
    of the prefix, rounded up or down.

    The next image is of the class that first needs one more to keep to this, among those that may have one more (the quota method
    of apportionment). Ties are broken at random.
    """
    generator = np.random.default_rng(seed)
    present, counts = np.unique(labels, return_counts=True)
    members = [generator.permutation(np.flatnonzero(labels == label)) for label in present]
    total, taken = len(labels), np.zeros_like(counts)
    order = np.empty(total, dtype=np.intp)
    for place in range(total):
        below_share = taken * total < (place + 1) * counts  # (K,)
        needed_at = -(-(taken + 1) * total // counts)  # (K,) length of the prefix whose share rounds down to one more
        chosen = np.where(below_share, needed_at + generator.random(len(counts)), np.inf).argmin()
        order[place] = members[chosen][taken[chosen]]
        taken[chosen] += 1
    return order


def _checked(name: str, count: int, labels: NDArray[np.int64]) -> int:
    total, smallest = len(labels), np.unique(labels, return_counts=True)[1].min()
    fewest = -(-total // smallest)  # so that each class has an image in the sample; at least the number of classes
    if not fewest <= count <= total:
        raise ValueError(
            f"sample.{name}: {count} of {total} images, must be all or {fewest} to {total}, so that every class is in the sample"
        )
    return count


def _take(part: ImageSet, index: NDArray[np.intp]) -> ImageSet:
    return ImageSet(part.images[index], part.labels[index])


def split_validation(train: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """-> train, validation: disjoint, stratified, drawn with `seed`, in the order of the source; validation has `fraction` of the
    images, rounded up. Raises ValueError where a class would be missing on one side."""
    from sklearn.model_selection import train_test_split

    advice = f"which is too few for a validation fraction of {fraction}: change the fraction or leave the class out"
    present, counts = np.unique(train.labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(f"class {present[counts.argmin()]} has 1 image in train, {advice}")
    size = len(train.labels)
    smallest = min(np.ceil(fraction * size), size - np.ceil(fraction * size))
    if smallest < len(present):
        raise ValueError(f"train has {size} images of {len(present)} classes, {advice}")
    kept, drawn = train_test_split(np.arange(size), test_size=fraction, random_state=seed, stratify=train.labels)
    for part in (kept, drawn):
        if missing := sorted(set(present) - set(train.labels[part])):
            raise ValueError(f"class {missing[0]} has {counts[present == missing[0]][0]} images in train, {advice}")
    kept.sort()
    drawn.sort()
    return _take(train, kept), _take(train, drawn)


def channel_statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """images: (N, C, H, W) uint8 -> mean (C,), population std (C,), both of pixels in [0, 1]; from counts, so exact in the sums."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), CHUNK):
        for channel, row in enumerate(counts):
            row += np.bincount(images[start : start + CHUNK, channel].ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)  # (C, 256)
    values = np.arange(256) / 255
    mean = (share * values).sum(axis=1)
    return mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))


def summarise(splits: Splits) -> dict[str, object]:
    """What a split file holds, for metrics: image counts, in all and by class, shape, mean and std to 6 decimals, class names."""
    per_class = {name: np.bincount(part.labels, minlength=len(splits.classes)) for name, part in splits.parts().items()}
    return {
        "images": {name: len(part.labels) for name, part in splits.parts().items()},
        "images_per_class": {name: dict(zip(splits.classes, n.tolist(), strict=True)) for name, n in per_class.items()},
        "shape": list(splits.train.images.shape[1:]),
        "mean": splits.mean.round(6).tolist(),
        "std": splits.std.round(6).tolist(),
        "classes": splits.classes,
    }
