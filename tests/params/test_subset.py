"""A subset of the methods and more seeds: two edits of the shipped params.yaml, and what follows from them."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.utils.hydra import apply_overrides

from pipeline.params.described import describe
from pipeline.params.items import AttackItem, CostItem, PlanesItem, TrainItem, TransferItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items
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


def test_what_a_method_is_follows_from_its_entry(tmp_path: Path) -> None:
    """Only softmax without more is undefended, whatever the loss is on."""
    copy = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(
        copy,
        [
            *("+methods.on_logits={base: center, layers: [logits]}", "+methods.averaged={base: softmax_fs, ema: 0.99}"),
            "+methods.perturbed={base: softmax_fs, awp: {gamma: 0.01, warmup: 0.0}}",
            "run.methods=[softmax_fs,softmax_deep,at,center,hcp_at,adp,input_gradient,on_logits,averaged,perturbed]",
        ],
    )
    methods = describe(load_params(copy, LOOKUPS))["methods"]
    kinds = {name: {kind for kind, holds in method["kind"].items() if holds} for name, method in methods.items()}
    assert kinds == {
        "softmax_fs": set(),
        **{name: {"features"} for name in ("softmax_deep", "center")},
        "at": {"adversarial"},
        "hcp_at": {"features", "adversarial"},
        **{name: {"other"} for name in ("adp", "input_gradient", "on_logits", "averaged", "perturbed")},
    }


def test_a_network_can_have_any_name(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert (text.count("\n      main:\n"), text.count("\n    network: main")) == (1, 1)
    copy = tmp_path / "params.yaml"
    copy.write_text(text.replace("\n      main:\n", "\n      net:\n").replace("\n    network: main", "\n    network: net"))
    found, shipped = (describe(load_params(path, LOOKUPS)) for path in (copy, ROOT / "params.yaml"))
    assert found["datasets"]["digits"]["network"] == shipped["datasets"]["digits"]["network"] != ""


@pytest.mark.parametrize("confirm", ["null", "''"])
def test_a_second_version_of_autoattack_can_be_left_empty(confirm: str, tmp_path: Path) -> None:
    copy = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(copy, [f"verdict.confirm={confirm}"])
    attack = all_items(load_params(copy, LOOKUPS))["digits", "attack", "hcp"]
    assert isinstance(attack, AttackItem)
    assert attack.verdict.confirm == {}
