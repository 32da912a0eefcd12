"""Kept work and tracked runs go by a key: it changes with every setting that the result depends on, and with no other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from conftest import ROOT

from pipeline.data.image_set import ImageSet, Splits, save_splits
from pipeline.jobs import attack, train
from pipeline.jobs.learner import new_learner
from pipeline.params.items import AttackItem, TrainItem, read_item
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe, write_items
from pipeline.params.schema import load_params
from pipeline.runtime.checkpoint import save_state
from pipeline.tracking.store import Settings

METHODS = ("softmax_fs", "at", "madry", "trades")
MEASURED = {"softmax_fs": ["noise", "cw"], "at": ["noise"], "madry": ["cw"], "trades": []}
UNTRACKED = Settings(enabled=False, uri="", experiment="none")
Keys = dict[str, str]


class Tracked(Exception):
    """Ends a job where it would begin to work, with the key that it goes by."""


def stop(settings: Settings, *, key: str, **_: Any) -> NoReturn:
    raise Tracked(key)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Keys]:
    """Of changes of params.yaml: the keys of every training and attack of four methods, as the jobs compute them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "track", stop)
    monkeypatch.setattr(attack, "track", stop)
    part = ImageSet(np.zeros((20, 1, 8, 8), np.uint8), np.arange(20) % 10)
    splits = Splits(part, part, part, [str(number) for number in range(10)], np.array([0.3]), np.array([0.4]))
    save_splits("data/digits.npz", splits)
    own = recipe(load_params(ROOT / "params.yaml"), "digits", "softmax")
    state = new_learner(own, splits, torch.device("cpu"), 0).latest()
    about = {"recipe": own.model_dump(mode="json"), "classes": 10, "channels": 1, "key": "trained", "dataset": "digits", "seed": 0}
    for method in ("softmax", *METHODS):
        save_state(Path("models/digits", method, "0.pt"), {**state, "params": {**about, "method": method}})

    def of(changes: dict[str, Any]) -> Keys:
        methods = {name: {"measure": measure} for name, measure in MEASURED.items()} | changes.get("methods", {})
        profile = {"extends": str(ROOT / "params.yaml"), "run": {"methods": list(METHODS)}, **changes, "methods": methods}
        Path("params.yaml").write_text(json.dumps(profile))
        write_items(load_params("params.yaml", LOOKUPS))
        found = {}
        for method in METHODS:
            for job, kind, name in ((train.train_model, TrainItem, "train"), (attack.attack_model, AttackItem, "attack")):
                with pytest.raises(Tracked) as ended:
                    job(read_item(kind, "digits", name, method), 0, UNTRACKED)
                found[f"{name} {method}"] = str(ended.value)
        return found

    return of


ALL_ATTACKS = {f"attack {method}" for method in METHODS}
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "noise": ({"noise": {"steps": 50}}, {"attack softmax_fs", "attack at"}),
    "cw": ({"attacks": {"cw": {"steps": 50}}}, {"attack softmax_fs", "attack madry"}),
    "constants of cw": ({"datasets": {"digits": {"evaluation": {"l2": {"c": [0.1, 2.0]}}}}}, {"attack softmax_fs", "attack madry"}),
    "pgd": ({"attacks": {"pgd": {"steps": 7}}}, ALL_ATTACKS),
    "a part of AutoAttack": ({"autoattack": {"rapid": {"square": {"queries": 600}}}}, ALL_ATTACKS),
    "a version of AutoAttack that is not run": ({"autoattack": {"standard": {"square": {"queries": 600}}}}, set()),
    "the adaptive attack": ({"verdict": {"adaptive": {"steps": 30}}}, ALL_ATTACKS),
    "precision of attacks": ({"compute": {"attack_precision": "bf16"}}, ALL_ATTACKS),
    "an optimizer": ({"datasets": {"digits": {"training": {"optimizers": {"trades": {"clip": 2.0}}}}}}, {"train trades"}),
    "a method": ({"methods": {"hcp": {"loss": {"negative": 0.5}}}}, set()),  # which is not run
    "tracking": ({"tracking": {"experiment": "another"}}, set()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_keys_hold_every_setting_that_the_result_depends_on_and_no_other(what: str, keys: Callable[[dict[str, Any]], Keys]) -> None:
    changes, concerned = CHANGES[what]
    before = keys({})
    assert len(set(before.values())) == len(before) == 2 * len(METHODS)
    assert keys({}) == before
    after = keys(changes)
    assert {name for name in before if after[name] != before[name]} == concerned
