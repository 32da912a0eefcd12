"""Centres of the classes in a feature space, for a model that has no prototypes of its own."""

from torch import Tensor


def class_means(features: Tensor, y: Tensor, classes: int) -> Tensor:
    """Mean of each class. features: (N, D), y: (N,) int64 -> (K, D). Raises ValueError for a class without any."""
    count = y.bincount(minlength=classes)  # (K,)
    if len(count) != classes or not count.all():
        raise ValueError(f"each of {classes} classes needs an image and no other label may occur, got {count.tolist()} of each")
    return features.new_zeros(classes, features.shape[1]).index_add(0, y, features) / count[:, None]
