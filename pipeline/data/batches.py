"""Batches that are made where the model is: images stay uint8 on the device, augmentation is one gather per batch."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Batch = tuple[Tensor, Tensor]  # images (B, C, H, W) in [0, 1], labels (B,)


def to_float(images: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def crop_and_flip(images: Tensor, generator: Generator, *, pad: int, flip: bool) -> Tensor:
    """Each image moved by up to `pad` pixels (zeros come in) and, if `flip`, mirrored half of the time. (B, C, H, W), any dtype."""
    count, _, height, width = images.shape
    device = images.device
    shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator, device=device)  # rows, columns
    rows = torch.arange(height, device=device) + shift[0]  # (B, H)
    columns = torch.arange(width, device=device) + shift[1]  # (B, W)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (pad, pad, pad, pad))
    index = torch.arange(count, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def training_batches(
    images: Tensor, labels: Tensor, generator: Generator, *, batch_size: int, pad: int, flip: bool
) -> Iterator[Batch]:
    """One epoch in random order, augmented. images: (N, C, H, W) uint8, labels: (N,); `generator` on their device. A last image
    that is left alone goes with the batch before it: batch norm learns nothing from one. Raises ValueError for a `pad` that moves
    all of an image out of sight."""
    if pad >= min(images.shape[2:]):
        raise ValueError(f"training.augment.pad: must be less than the {min(images.shape[2:])} pixels of an image, got {pad}")
    order = torch.randperm(len(images), generator=generator, device=images.device)
    sizes = [min(batch_size, len(order) - start) for start in range(0, len(order), batch_size)]
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [sizes[-2] + 1]
    for index in order.split(sizes):
        batch = images[index]
        yield to_float(crop_and_flip(batch, generator, pad=pad, flip=flip) if pad or flip else batch), labels[index]
