"""The papers' networks learn from real images: one epoch on a slice."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from pipeline.data.parquet_files import parquet
from pipeline.data.splits import channel_statistics
from pipeline.losses.pcl import PCL
from pipeline.models import NETWORKS, Network

REAL = ROOT / ".." / "shared" / "data"


def train_epoch(net: Network, images: np.ndarray, labels: np.ndarray, batch_size: int) -> list[float]:
    """One epoch on cross entropy + the released code's PCL on layers 3, 4, 5 -> the loss of each step."""
    release = {"pull": 1.0, "push": 1e-4, "apart": 0.0, "shared_centres": False, "centre_init": "uniform"}
    losses = {name: PCL(10, net.dims[name], **release) for name in ("layer3", "layer4", "layer5")}
    centres = [p for loss in losses.values() for p in loss.parameters()]
    optimizer = torch.optim.SGD([{"params": net.parameters(), "momentum": 0.9}, {"params": centres, "lr": 0.5}], lr=0.01)
    net.to(memory_format=torch.channels_last).train()
    values = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        x, y = torch.from_numpy(images[part]).float() / 255, torch.from_numpy(labels[part].astype(np.int64))
        logits, features = net.forward_features(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, y) + sum(loss(features[name], y).mean() for name, loss in losses.items())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)  # from random weights, squared distances start in the thousands
        optimizer.step()
        values.append(loss.item())
    return values


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not in ../shared/data")
@pytest.mark.parametrize(
    ("folder", "name", "options", "images", "batch_size"),
    [
        ("mnist", "conv6", {"penultimate": 64}, 2000, 50),
        ("cifar10", "resnet110", {"blocks": 12, "branch": 512, "penultimate": 1024}, 512, 64),
    ],
)
def test_the_loss_falls_on_real_images(folder: str, name: str, options: dict[str, Any], images: int, batch_size: int) -> None:
    torch.manual_seed(0)
    place = str(REAL / folder)
    train = parquet(train=place, test=place, image_column=None, label_column=None, sha256sums=None)[0]
    mean, std = (torch.tensor(values) for values in channel_statistics(train.images))
    values = train_epoch(NETWORKS[name](10, mean, std, **options), train.images[:images], train.labels[:images], batch_size)
    quarter = len(values) // 4
    assert np.isfinite(values).all()
    assert np.mean(values[-quarter:]) < 0.8 * np.mean(values[:quarter]), values
