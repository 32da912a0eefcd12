"""The papers' networks learn from real images by the shipped methods: one epoch on a slice, through the pipeline's own loop."""

import io

import numpy as np
import pytest
import torch
from conftest import ROOT
from tqdm import tqdm

from pipeline.data.batches import training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.data.parquet_files import parquet
from pipeline.data.splits import channel_statistics
from pipeline.jobs.learner import new_learner, recipe_adversary
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.training.loop import run_epoch

REAL = ROOT / ".." / "shared" / "data"
CPU = torch.device("cpu")


def slice_of(folder: str, images: int) -> Splits:
    place = str(REAL / folder)
    train, _, classes = parquet(train=place, test=place, image_column=None, label_column=None, sha256sums=None)
    part = ImageSet(train.images[:images], train.labels[:images])
    mean, std = (np.array(values) for values in channel_statistics(train.images))
    return Splits(part, part, part, classes, mean, std)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not in ../shared/data")
@pytest.mark.parametrize(
    ("dataset", "images", "method"),
    [
        ("mnist", 2000, "softmax_fs"),
        ("mnist", 2000, "pcl_deep"),
        ("cifar10", 2048, "softmax_fs"),
        ("cifar10", 2048, "pcl_deep"),
    ],
)
def test_the_loss_falls_on_real_images(dataset: str, images: int, method: str) -> None:
    own, splits = recipe(load_params(ROOT / "params.yaml", LOOKUPS), dataset, method), slice_of(dataset, images)
    own = own.model_copy(update={"optimizer": own.optimizer.model_copy(update={"lr": 0.01, "clip": 1.0})})
    learner = new_learner(own, splits, CPU, 0)
    labels = torch.from_numpy(splits.train.labels)
    batches = list(
        training_batches(torch.from_numpy(splits.train.images), labels, learner.generator, batch_size=32, pad=0, flip=False)
    )
    quarter, adversary, losses = len(batches) // 4, recipe_adversary(own), []
    for start in range(0, 4 * quarter, quarter):
        bar = tqdm(desc=method, file=io.StringIO())
        losses.append(run_epoch(learner, iter(batches[start : start + quarter]), adversary, "fp32", bar, gamma=0.0)["loss"])
    assert losses[-1] < 0.95 * losses[0], losses
