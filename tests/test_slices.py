"""A slice of the papers' colour sets through every stage of the profiles for a GPU, with their ResNet-110: --slow."""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from test_pipeline import ENVIRONMENT, repro, write_params

from benchmarks.faults.small import small_params

METHODS = {
    "hcp": ["softmax_fs", "hcp", "at"],
    "pcl": ["softmax_fs", "pcl_deep", "pcl_at_fgsm"],
    "cifar10": ["softmax_fs", "hcp_at", "pcl_deep"],
}
DATASETS = {"hcp": ["cifar10", "cifar100", "svhn"], "pcl": ["cifar10", "cifar100", "svhn"], "cifar10": ["cifar10"]}


def write_set(folder: Path, train: int, test: int, columns: dict[str, int], image: str) -> None:
    """Colour noise, 32x32, as the hub has CIFAR-100 and SVHN: a struct of bytes and path, labels with their names in the schema.
    columns: labels by name, with how many classes each has."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        encoded = []
        for pixels in draws.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            encoded.append({"bytes": buffer.getvalue(), "path": None})
        labels = {name: pa.array(np.arange(count) % classes) for name, classes in columns.items()}
        pq.write_table(pa.table({image: encoded} | labels), folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.slow
@pytest.mark.skipif("PIPELINE_IMAGES" not in os.environ, reason="PIPELINE_IMAGES names no folder with parquet files of the sets")
@pytest.mark.parametrize("profile", METHODS)
def test_a_slice_of_each_colour_set_runs_through_every_stage(tmp_path: Path, profile: str) -> None:
    images = tmp_path / "images"
    write_set(images / "cifar100", 300, 100, {"fine_label": 100, "coarse_label": 20}, "img")
    write_set(images / "svhn", 60, 20, {"label": 10}, "image")
    (images / "cifar10").symlink_to(Path(os.environ["PIPELINE_IMAGES"]).resolve() / "cifar10")
    own, small = yaml.safe_load((ROOT / "profiles" / profile / "params.yaml").read_text(encoding="utf-8")), small_params()
    own |= {"extends": str(ROOT / "params.yaml"), "root": str(ROOT), "tracking": {"enabled": False}}
    own |= {name: small[name] for name in ("noise", "autoattack", "verdict", "attacks")}
    own |= {"images": {"form": "parquet", "folder": str(images)}, "compute": {"precision": "fp32"}}
    own["run"] |= {"datasets": DATASETS[profile], "methods": METHODS[profile]}
    for dataset, train in (("cifar10", 60), ("cifar100", 300), ("svhn", 60)):
        part = own["datasets"].setdefault(dataset, {})
        part["sample"] = {"train": train, "test": 20 if dataset != "cifar100" else 100, "seed": 0}
        part["validation"] = {"fraction": 0.34}
        part.setdefault("training", {}).update({"epochs": {"pretrain": 1, "train": 1}, "batch_size": 16})
        part["evaluation"] = {"linf": {"eps": [0.03], "sweep": []}, "l2": {"c": [0.1], "images": 4}, "images": 8}
        part["evaluation"] |= {"headline": {"eps": 0.03, "images": 4}, "table": {"eps": 0.03, "c": 0.1}}
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "data/given").mkdir(parents=True)
    write_params(tmp_path, own)
    ran = {name.partition("@")[0] for name in repro(tmp_path)}
    assert ran >= {"data", "pretrain", "finetune", "attack", "transfer", "planes", "cost", "tables", "figures", "cards", "report"}
    assert ("sources" in ran) == (profile == "pcl")
    papers = [profile] if profile != "cifar10" else ["hcp", "pcl"]
    table = pd.concat([pd.read_csv(tmp_path / f"metrics/tables/{paper}.csv") for paper in papers])
    both = table[table["measured"].notna() & table["published"].notna()]
    assert set(both["dataset"]) == {*DATASETS[profile]}
    sources = {"vgg", "vgg_at_fgsm"} if profile == "pcl" else set()  # themselves in PCL table 13
    assert set(both["key"]) == {*METHODS[profile], *sources}
    recipe = yaml.safe_load((tmp_path / "data/items/cifar10/train/softmax.yaml").read_text())["recipe"]
    assert (recipe["network"]["name"], recipe["network"]["blocks"]) == ("resnet110", {"hcp": 18}.get(profile, 12))
