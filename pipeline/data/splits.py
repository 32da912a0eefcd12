"""The validation split, and the figures of the train split that models normalise with."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet, Splits

CHUNK = 1000  # images counted at a time: np.bincount needs 8 bytes a pixel


def make_splits(train: ImageSet, test: ImageSet, classes: list[str], *, fraction: float, seed: int) -> Splits:
    """Takes the validation split from `train`; mean and std are those of what is left. The test split stays as it is."""
    kept, validation = split_validation(train, fraction, seed)
    mean, std = channel_statistics(kept.images)
    return Splits(kept, validation, test, classes, mean, std)


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
    return ImageSet(train.images[kept], train.labels[kept]), ImageSet(train.images[drawn], train.labels[drawn])


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
