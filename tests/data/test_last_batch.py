"""The last batch of an epoch, and padding, where batch norm and images set limits."""

import pytest
import torch
from torch import Generator

from pipeline.data.batches import training_batches
from pipeline.models.vgg19 import VGG19


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (5, 4, [5]), (4, 4, [4]), (3, 4, [3]), (3, 2, [3]), (1, 4, [1])],
)
def test_a_last_image_is_not_left_alone(count: int, batch_size: int, sizes: list[int]) -> None:
    images, labels = torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.arange(count)
    batches = list(training_batches(images, labels, Generator().manual_seed(0), batch_size=batch_size, pad=0, flip=False))
    assert [len(x) for x, _ in batches] == sizes
    order = torch.randperm(count, generator=Generator().manual_seed(0))  # as before, so that other sizes give the same training
    assert torch.equal(torch.cat([y for _, y in batches]), order)


def test_batch_norm_on_maps_of_one_pixel_takes_every_batch() -> None:
    network = VGG19(10, torch.zeros(1), torch.ones(1), width=2, poolings=5, penultimate=2).train()
    images, labels = torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.zeros(1, 1, 8, 8))
    for x, _ in training_batches(images, labels, Generator().manual_seed(0), batch_size=2, pad=0, flip=False):
        network(x)


def test_padding_by_a_whole_image_is_refused_before_the_first_step() -> None:
    images, labels = torch.zeros(4, 1, 8, 6, dtype=torch.uint8), torch.arange(4)
    batches = training_batches(images, labels, Generator().manual_seed(0), batch_size=2, pad=6, flip=False)
    with pytest.raises(ValueError, match=r"augment\.pad: must be less than the 6 pixels of an image, got 6"):
        next(batches)
    assert len(list(training_batches(images, labels, Generator().manual_seed(0), batch_size=2, pad=5, flip=False))) == 2
