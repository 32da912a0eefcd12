"""A model from elsewhere as a method of the run: it is judged as it is, its files count, and nothing is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits
from torch import nn

from pipeline.data.image_set import ImageSet, Splits, save_splits
from pipeline.jobs.train import train_model
from pipeline.jobs.trained import model_of
from pipeline.params.items import TrainItem, read_item
from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import ParamsError
from pipeline.params.resolve import all_items, write_items
from pipeline.params.schema import load_params
from pipeline.tracking.store import Settings

UNTRACKED = Settings(enabled=False, uri="", experiment="none")
SOURCE = """
from torch import nn
from width import WIDTH

def net(slope=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.LeakyReLU(slope), nn.Linear(WIDTH, 10))
"""
THEIRS = {
    "base": "softmax",
    "label": "Theirs",
    "papers": ["hcp", "pcl"],
    "measure": ["l2"],
    "given": {"model": "data/given/theirs.py:net", "weights": "data/given/{dataset}-{seed}.pt", "mean": [0.5], "std": [0.25]},
}


def write_params(method: dict[str, Any] | None = None, **changes: Any) -> None:
    profile = {"extends": str(ROOT / "params.yaml"), "run": {"methods": ["softmax_fs", "theirs"]}, **changes}
    Path("params.yaml").write_text(json.dumps(profile | {"methods": {"theirs": method or THEIRS}}))


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """In a folder with digits: a plain network trained for normalised images by a plain loop, and its files in data/given."""
    monkeypatch.chdir(tmp_path)
    bunch = load_digits()
    images, labels = (bunch.images[:, None] * 255 / 16).round().astype(np.uint8), bunch.target.astype(np.int64)
    parts = [ImageSet(images[i::3], labels[i::3]) for i in range(3)]
    save_splits("data/digits.npz", Splits(*parts, [str(number) for number in range(10)], np.array([0.3]), np.array([0.4])))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.LeakyReLU(0.0), nn.Linear(24, 10))
    x = (torch.from_numpy(images[0::3]) / 255 - 0.5) / 0.25
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.from_numpy(labels[0::3])).backward()
        optimizer.step()
    Path("data/given").mkdir()
    Path("data/given/theirs.py").write_text(SOURCE)
    Path("data/given/width.py").write_text("WIDTH = 24")
    torch.save({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, "data/given/digits-0.pt")
    write_params()
    return model.eval()


def take_in() -> None:
    write_items(load_params("params.yaml", LOOKUPS))
    train_model(read_item(TrainItem, "digits", "train", "theirs"), 0, UNTRACKED)


def test_it_answers_as_it_did_before(theirs: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    take_in()
    assert "imported, validation accuracy" in capsys.readouterr().out
    from pipeline.data.image_set import load_splits

    splits = load_splits("data/digits.npz")
    network, criterion, about = model_of("digits", "theirs", 0, splits, torch.device("cpu"))
    x = torch.from_numpy(splits.test.images[:50]) / 255
    with torch.no_grad():
        assert torch.allclose(network(x), theirs((x - 0.5) / 0.25), atol=1e-5)
    assert not list(criterion.prototypes())
    assert about["recipe"]["given"]["model"] == "data/given/theirs.py:net"
    curve = pd.read_csv("models/digits/theirs/0.csv")
    shown = (torch.from_numpy(splits.validation.images) / 255 - 0.5) / 0.25
    right = (theirs(shown).argmax(1) == torch.from_numpy(splits.validation.labels)).double().mean().item()
    assert curve["validation_accuracy"].item() == pytest.approx(100 * right, abs=1e-4)


def digest_of_items() -> dict[str, str]:
    return {"/".join(key): repr(item) for key, item in all_items(load_params("params.yaml", LOOKUPS)).items()}


@pytest.mark.parametrize(
    ("file", "content"),
    [("theirs.py", SOURCE + "# another"), ("width.py", "WIDTH = 23"), ("digits-0.pt", "other weights")],
)
def test_each_of_its_files_counts_for_its_training_alone(theirs: nn.Module, file: str, content: str) -> None:
    before = digest_of_items()
    Path("data/given", file).write_text(content)
    assert {name for name, item in digest_of_items().items() if item != before[name]} == {"digits/train/theirs"}


def test_a_change_of_what_takes_it_in_concerns_no_trained_model(theirs: nn.Module) -> None:
    items: Any = all_items(load_params("params.yaml", LOOKUPS))
    for stage in ("train", "attack"):
        assert "pipeline/jobs/adopt.py" in items["digits", stage, "theirs"].code
        assert "pipeline/jobs/adopt.py" not in items["digits", stage, "softmax_fs"].code
    assert "pipeline/evaluation/beforehand.py" not in items["digits", "train", "softmax_fs"].code


def test_code_that_has_changed_since_is_refused(theirs: nn.Module) -> None:
    from pipeline.data.image_set import load_splits

    take_in()
    Path("data/given/theirs.py").write_text(SOURCE.replace("LeakyReLU(slope)", "Tanh()"))  # the same weights would fit
    with pytest.raises(ValueError, match=r"data/given/theirs.py has changed since"):
        model_of("digits", "theirs", 0, load_splits("data/digits.npz"), torch.device("cpu"))


def edited(**given: Any) -> dict[str, Any]:
    return THEIRS | {"given": {**THEIRS["given"], **given}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        (edited(weights="elsewhere.pt"), {}, "methods.theirs.given: elsewhere.pt must be in data/given"),
        (edited(weights="data/given/../elsewhere.pt"), {}, "data/given/../elsewhere.pt must be in data/given"),
        (edited(weights="data/given/{seed}.pt"), {}, "methods.theirs.given: there is no file data/given/0.pt"),
        (edited(wieghts="a"), {}, "methods.theirs.given.wieghts: is not a parameter here"),
        (THEIRS | {"ema": 0.9}, {}, "methods.theirs.ema: a given model is not trained; take base: softmax"),
        (THEIRS | {"base": "at"}, {}, "methods.theirs.adversary: a given model is not trained"),
        (THEIRS, {"cost": {"methods": ["theirs"]}}, "methods.theirs.given: cost.methods trains theirs"),
        (THEIRS | {"measure": ["adaptive"]}, {}, "methods.theirs.measure: adaptive needs one of the losses"),
    ],
)
def test_params_that_cannot_be_are_refused(theirs: nn.Module, method: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    write_params(method, **changes)
    with pytest.raises(ParamsError) as error:
        write_items(load_params("params.yaml", LOOKUPS))
    assert said in str(error.value)


def test_weights_may_be_links_into_a_cache(theirs: nn.Module) -> None:
    """As DVC puts them there with cache.type symlink. What the link leads to counts."""
    weights, before = Path("data/given/digits-0.pt"), all_items(load_params("params.yaml", LOOKUPS))
    weights.rename("0a1b")
    weights.symlink_to(Path("0a1b").absolute())
    assert all_items(load_params("params.yaml", LOOKUPS)) == before
    Path("0a1b").write_bytes(b"others")
    assert all_items(load_params("params.yaml", LOOKUPS)) != before


Change = Callable[[nn.Module], object]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))", "returns probabilities"),
        ("nn.Sequential(nn.Flatten(), nn.Linear(64, 11))", "11 classes, digits has 10"),
        ("nn.Sequential(nn.Flatten(), nn.Linear(65, 10))", "fails on 2 images of 1x8x8"),
        ("3", "returned int, not a torch.nn.Module"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_any_attack(theirs: nn.Module, source: str, said: str) -> None:
    Path("data/given/theirs.py").write_text(f"from torch import nn\ndef net():\n    return {source}\n")
    write_params(edited(weights=None))
    with pytest.raises(ValueError, match=said):
        take_in()


def test_what_it_reads_counts_and_the_weights_of_another_do_not(theirs: nn.Module) -> None:
    Path("data/given/config.json").write_text('{"width": 24}')
    before = digest_of_items()
    Path("data/given/config.json").write_text('{"width": 25}')
    assert {name for name, digest in digest_of_items().items() if digest != before[name]} == {"digits/train/theirs"}
    Path("data/given/config.json").write_text('{"width": 24}')
    for name in ("other.pt", "theirs.py~", ".theirs.py.swp", "README.md"):
        Path("data/given", name).write_bytes(b"0")
    assert {name for name, digest in digest_of_items().items() if digest != before[name]} == set()


def test_a_package_beside_params_is_refused_since_its_changes_would_not_count(theirs: nn.Module) -> None:
    Path("mynets").mkdir()
    Path("mynets/__init__.py").write_text("raise RuntimeError('it must not be run to be found')")
    write_params(edited(model="mynets.net:build"))
    with pytest.raises(
        ParamsError, match=r"methods.theirs.given.model: mynets.net:build is in .*mynets, whose changes would not count"
    ):
        all_items(load_params(lookups=LOOKUPS))
    write_params(edited(model="torchvision.models:resnet18"))  # which is installed
    assert all_items(load_params(lookups=LOOKUPS))
