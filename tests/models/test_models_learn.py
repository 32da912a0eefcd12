"""The papers' networks learn from real images by the shipped methods: one epoch on a slice, through the pipeline's own loop."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from tqdm import tqdm

from pipeline.data.batches import training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.data.parquet_files import parquet
from pipeline.data.splits import channel_statistics
from pipeline.jobs.learner import method_adversary, new_learner
from pipeline.params.choices import NetworkChoice
from pipeline.params.schema import load_params
from pipeline.training.loop import run_epoch

REAL = ROOT / ".." / "shared" / "data"
CPU = torch.device("cpu")
CONV6 = {"name": "conv6", "penultimate": 64}
RESNET110 = {"name": "resnet110", "blocks": 12, "branch": 512, "penultimate": 1024}


def slice_of(folder: str, images: int) -> Splits:
    place = str(REAL / folder)
    train, _, classes = parquet(train=place, test=place, image_column=None, label_column=None, sha256sums=None)
    part = ImageSet(train.images[:images], train.labels[:images])
    mean, std = (np.array(values) for values in channel_statistics(train.images))
    return Splits(part, part, part, classes, mean, std)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not in ../shared/data")
@pytest.mark.parametrize(
    ("folder", "network", "images", "method"),
    [
        ("mnist", CONV6, 2000, "softmax_fs"),
        ("mnist", CONV6, 2000, "pcl_deep"),
        ("cifar10", RESNET110, 2048, "softmax_fs"),
        ("cifar10", RESNET110, 2048, "pcl_deep"),
    ],
)
def test_the_loss_falls_on_real_images(folder: str, network: dict[str, Any], images: int, method: str) -> None:
    params, splits = load_params(ROOT / "params.yaml"), slice_of(folder, images)
    recipe = params.methods[method]
    recipe = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 0.01, "clip": 1.0})})
    data = params.datasets["digits"].model_copy(update={"networks": {"main": NetworkChoice(**network)}})
    learner = new_learner(data, recipe, splits, CPU, 0)
    labels = torch.from_numpy(splits.train.labels)
    batches = list(
        training_batches(torch.from_numpy(splits.train.images), labels, learner.generator, batch_size=32, pad=0, flip=False)
    )
    quarter, adversary, losses = len(batches) // 4, method_adversary(recipe, data.training), []
    for start in range(0, 4 * quarter, quarter):
        bar = tqdm(desc=method, file=io.StringIO())
        losses.append(run_epoch(learner, iter(batches[start : start + quarter]), adversary, "fp32", bar)["loss"])
    assert losses[-1] < 0.95 * losses[0], losses
