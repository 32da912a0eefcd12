"""A subset of the methods and more seeds: two edits of the shipped params.yaml, and what follows from them."""

import shutil
from pathlib import Path

from conftest import ROOT
from dvc.utils.hydra import apply_overrides

from pipeline.params.items import AttackItem, CostItem, PlanesItem, TrainItem, TransferItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, describe
from pipeline.params.schema import load_params


def test_three_methods_and_two_seeds_are_two_edits_and_the_rest_follows_or_says_what_it_lacks(tmp_path: Path) -> None:
    copy = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    before = copy.read_text()
    apply_overrides(copy, ["run.methods=[softmax_fs,at,hcp]", "run.seeds=[0,1]"])
    assert {line for line in copy.read_text().splitlines() if line not in before.splitlines()} <= {"  - 1"}
    params = load_params(copy, LOOKUPS)
    items = all_items(params).values()
    picked = ["softmax_fs", "at", "hcp"]
    trained = [item.method for item in items if isinstance(item, TrainItem)]
    assert trained == ["softmax", *picked, "vgg", "vgg_at_fgsm"]  # the first is what at and hcp begin with
    assert [item.method for item in items if isinstance(item, AttackItem)] == picked
    (transfer,) = (item for item in items if isinstance(item, TransferItem))
    assert (transfer.sources, transfer.targets) == (["vgg", "vgg_at_fgsm"], ["vgg", "vgg_at_fgsm", *picked])
    assert [[*item.recipes] for item in items if isinstance(item, PlanesItem)] == [["softmax_fs"]]
    assert [[*item.recipes] for item in items if isinstance(item, CostItem)] == [["softmax_fs", "hcp"]]
    run = describe(params)
    assert ([*run["methods"]], run["seeds"]) == (picked, [0, 1])
    assert run["lacks"] == [
        "transfer: madry is not in run.methods",
        "transfer: pcl_at_pgd is not in run.methods",
        "planes: pcl_deep is not in run.methods",
        "cost: center_deep is not in run.methods",
        "cost: contrastive is not in run.methods",
        "cost: triplet is not in run.methods",
        "cost: pcl_deep is not in run.methods",
        "statistics: no method of the run is center",
        "statistics: no method of the run is pcl",
    ]
