"""Stage planes: what it keeps of each epoch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from pipeline.data.image_set import ImageSet, Splits
from pipeline.jobs.planes import _train_plane
from pipeline.params.items import PlanesItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items
from pipeline.params.schema import load_params

CPU = torch.device("cpu")


def small_item() -> PlanesItem:
    item = all_items(load_params(ROOT / "params.yaml", LOOKUPS))["digits", "planes"]
    assert isinstance(item, PlanesItem)
    recipe = item.recipes["softmax_fs"].model_copy(update={"epochs": 2, "batch_size": 8})
    return item.model_copy(update={"recipes": {"softmax_fs": recipe}, "epochs": [1]})


def test_features_of_a_past_epoch_that_are_lost_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later epoch's do not take their place: the weights of that epoch are gone."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    part = ImageSet(rng.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8), np.arange(24) % 10)
    splits = Splits(part, part, part, [str(number) for number in range(10)], np.full(1, 0.5), np.full(1, 0.3))
    _train_plane(small_item(), "softmax_fs", splits, CPU, Path("kept"))
    with np.load("data/planes/digits/softmax_fs.npz") as made:
        assert not np.array_equal(*made["clean"])
    Path("kept/1.pt").unlink()
    with pytest.raises(ValueError, match=r"1\.pt does not exist; delete the folder kept to restart training"):
        _train_plane(small_item(), "softmax_fs", splits, CPU, Path("kept"))
