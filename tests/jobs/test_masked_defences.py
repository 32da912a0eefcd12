"""Models through stage attack and the tables: one that hides its gradient is never under "holds", an honest one has no flag."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from made_run import made_item
from plants import DEFENCES, EPS, THERMOMETER, fit
from torch import Tensor, nn

from pipeline.data.image_set import ImageSet, Splits, save_splits
from pipeline.jobs import attack
from pipeline.models.network import Network
from pipeline.models.small_cnn import SmallCNN
from pipeline.params.items import AttackItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items
from pipeline.params.schema import load_params
from pipeline.reporting.run import run_from
from pipeline.reporting.verdict.status import HOLDS, LOOKED, MASKED
from pipeline.reporting.write import write_verdict
from pipeline.tracking.store import Settings
from pipeline.training.criterion import Criterion

IMAGES = 120
PARAMS = load_params(ROOT / "params.yaml", LOOKUPS)
QUICK = {"steps": 20, "targets": 3, "queries": 100}  # of the rapid version; of the standard one
CONFIRM = {"steps": 10, "targets": 2, "queries": 50}
NOTHING = Settings(enabled=False, uri="", experiment="")


def quick(choices: dict[str, Any], options: dict[str, int]) -> dict[str, Any]:
    return {
        name: choice.model_copy(update={key: value for key, value in options.items() if key in choice.options})
        for name, choice in choices.items()
    }


def item(method: str) -> AttackItem:
    confirmed = PARAMS.model_copy(update={"verdict": PARAMS.verdict.model_copy(update={"confirm": "standard"})})
    made = all_items(confirmed)["digits", "attack", "at"]
    assert isinstance(made, AttackItem)
    verdict = made.verdict
    verdict = verdict.model_copy(
        update={
            "autoattack": quick(verdict.autoattack, QUICK),
            "confirm": quick(verdict.confirm, CONFIRM),
            "adaptive": verdict.adaptive.model_copy(update={"steps": 10, "restarts": 1}),
            "follow_up": verdict.follow_up.model_copy(update={"queries": 400, "draws": 5, "steps": 20}),
        }
    )
    return made.model_copy(update={"method": method, "eps": [0.05, EPS], "noise": None, "images": IMAGES, "verdict": verdict})


class Place:
    """A folder with the digits, in which models are judged as stage attack judges them."""

    def __init__(self, folder: Path, x: Tensor, y: Tensor) -> None:
        self.folder, self.models = folder, dict[str, Network]()
        part = ImageSet((x * 255).round().to(torch.uint8).numpy(), y.numpy())
        splits = Splits(part, part, part, [str(i) for i in range(10)], np.array([0.3]), np.array([0.4]))
        save_splits(folder / "data/digits.npz", splits)

    def judge(self, name: str, model: Network) -> pd.Series:
        """Its line of verdict_status.csv, beside the undefended model's."""
        self.models[name] = model
        for path in (f"data/items/digits/attack/{name}.yaml", f"models/digits/{name}/0.pt"):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text("made up")
        with contextlib.chdir(self.folder):
            attack.attack_model(item(name), 0, NOTHING)
        return self.table(name)

    def table(self, name: str) -> pd.Series:
        described = made_item(dict.fromkeys(("softmax_fs", name)), transfer=[], planes=[], cost=[])
        described["methods"][name]["kind"] = {"features": False, "adversarial": False, "other": name != "softmax_fs"}
        described["autoattack"]["parts"] |= {
            f"standard/{part}": choice.name for part, choice in PARAMS.autoattack["standard"].items()
        }
        run, data, metrics = run_from(described), self.folder / "data", self.folder / "metrics"
        for path in (metrics / "tables", data / "report"):
            path.mkdir(parents=True, exist_ok=True)
        write_verdict(run, data, metrics)
        status = pd.read_csv(metrics / "tables/verdict_status.csv").astype(object).fillna("").set_index("method")
        return status.loc[name]

    def outcomes(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"data/verdict/digits/{name}/0/outcomes.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base, x, y = fit(5, adversarial=False)
    made = Place(tmp_path_factory.mktemp("digits"), x, y)
    criterion = Criterion({}, {}, "none", cross_entropy=1.0, input_gradient=0.0, trades=0.0)
    made.models["softmax"] = base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attack, "model_of", lambda dataset, method, *_: (made.models[method], criterion, {"key": "made up"}))
        made.judge("softmax_fs", base)
        (made.folder / "models/digits/softmax").mkdir()
        (made.folder / "models/digits/softmax/0.pt").write_text("made up")  # a sibling from here on
        yield made


def slug(name: str) -> str:
    return name.replace(" ", "_")


SLOW = ("the answer alone", "ranks", "quantised pixels", "wrong gradient")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DEFENCES])
def test_a_defence_that_hides_the_gradient_is_never_under_holds(name: str, place: Place) -> None:
    torch.manual_seed(0)
    base = place.models["softmax"]
    assert isinstance(base, SmallCNN)
    line = place.judge(slug(name), DEFENCES[name](base).eval())
    assert line["status"] in ((MASKED,) if name == "constant near the centres" else (MASKED, LOOKED)), line
    assert line["flags"] > 0
    tried = set(place.outcomes(slug(name))["attack"])
    assert {"adaptive/sibling", "adaptive/square"} <= tried


def test_a_thermometer_code_is_never_under_holds(place: Place) -> None:
    line = place.judge("thermometer", THERMOMETER()[0])
    assert line["status"] != HOLDS
    assert line["flags"] > 0


def test_an_adversarially_trained_model_behind_a_defence_has_an_upper_bound(place: Place, robust: SmallCNN) -> None:
    model = DEFENCES["detached features"](robust).eval()
    line = place.judge("robust_detached", model)
    assert line["status"] == MASKED
    assert line["note"].startswith("at most ")
    assert "zero gradient" in line["note"]
    left = place.outcomes("robust_detached").groupby("attack")["correct"].mean()
    assert left["adaptive/bpda"] < left["adaptive/ce"] - 0.2  # straight through, the model's own gradient is back


def group_norm(network: SmallCNN) -> SmallCNN:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, nn.GroupNorm(4, module.num_features))
    return network


@pytest.fixture(scope="module")
def robust() -> SmallCNN:
    model = fit(12, adversarial=True)[0]
    assert isinstance(model, SmallCNN)
    return model


def test_an_adversarially_trained_model_holds_without_a_flag_under_the_standard_version_too(place: Place, robust: SmallCNN) -> None:
    line = place.judge("robust", robust)
    assert (line["status"], line["flags"], line["confirmed"]) == (HOLDS, 0, "standard")


HONEST: dict[str, Callable[[], Network]] = {
    "plain": lambda: fit(8, adversarial=False)[0],
    "group norm": lambda: fit(8, adversarial=False, change=group_norm)[0],
    "group norm adversarially trained": lambda: fit(12, adversarial=True, change=group_norm)[0],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if "trained" in n else []) for n in HONEST])
def test_an_honest_model_has_no_flag(name: str, place: Place) -> None:
    line = place.judge(slug(name), HONEST[name]())
    assert line["flags"] == 0, line["note"]
    assert (line["status"] == HOLDS) == ("adversarially" in name)
    assert (line["confirmed"] == "standard") == ("adversarially" in name)
    tried = set(place.outcomes(slug(name))["attack"])
    assert not tried & {"adaptive/spsa", "adaptive/square", "adaptive/bpda"}
