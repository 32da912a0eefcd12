"""Source sklearn_digits: the 1797 grey 8x8 digits that come with scikit-learn; needs no download."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt

from pipeline.data.image_set import ImageSet


def sklearn_digits(
    *, test_fraction: Annotated[float, Gt(0), Lt(1)], seed: Annotated[int, Ge(0)]
) -> tuple[ImageSet, ImageSet, list[str]]:
    """sklearn.datasets.load_digits, values 0..16 spread over 0..255 -> train, test, classes; images (N, 1, 8, 8).

    The set has no published split, so one is drawn, stratified and in random order: images of one writer stand together in the
    source.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels)
    classes = [str(name) for name in digits.target_names]
    return ImageSet(images[train], labels[train]), ImageSet(images[test], labels[test]), classes
