"""What the tests of tracking share: work as stages track it, and runs as a user finds them."""

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from mlflow.tracking import MlflowClient

from pipeline.tracking.run import track
from pipeline.tracking.store import Settings, store_uri

SETTINGS = Settings(enabled=True, uri="", experiment="digits")
PARAMS = {"method": {"loss": {"e": 0.001, "layers": ["fc"]}}, "seed": 0, "long": "x" * 7000}
LATER = "; the results do not depend on it; `python -m stages.sync` records this run later\n"
STAGE = """
import os, sys
from pathlib import Path
from pipeline.tracking.run import track
from pipeline.tracking.store import Settings
settings = Settings(True, "", "digits")
with track(settings, model=sys.argv[1], key=sys.argv[1], params={"a": 1}, tags={"stage": "train"}, record=Path(sys.argv[1])) as run:
    run.log({"loss": 1.0}, step=1)
    run.log({"loss": 0.5}, step=2)
    exec(sys.argv[2])
"""
KILLED = "run.writer.submit(int).result(); os.kill(os.getpid(), 9)"  # once the points are in the store
SHARED: list[Path] = []


@pytest.fixture(autouse=True)
def in_shared_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with a store that all tests share: a new one takes seconds to make."""
    if not SHARED:
        SHARED.append(tmp_path_factory.mktemp("shared"))
    monkeypatch.chdir(SHARED[0])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def train(model: str, key: str, *, below: Path = Path(), epochs: int = 3, settings: Settings = SETTINGS) -> Path:
    """A training as a stage tracks it, and its record file."""
    record = below / "models" / f"{model}.json"
    tags = {"dataset": "digits", "stage": "train"}
    with track(settings, model=model, key=key, params=PARAMS, tags=tags, record=record) as run:
        for epoch in range(1, epochs + 1):
            run.log({"loss": 1 / epoch, "hcp[gap]": 2.0}, step=epoch)
            run.log({"images_per_second": time.perf_counter()}, step=epoch, record=False)
        run.log({"validation_accuracy": 97.5})
    return record


def attack(model: str, key: str, trained: str, *, accuracy: float = 50.0, steps: int = 10, below: Path = Path()) -> Path:
    record = below / "data/verdict" / model / "run.json"
    params = {"attack": {"pgd": {"steps": steps}}}
    tags = {"dataset": "digits", "stage": "attack"}
    with track(SETTINGS, model=model, key=key, params=params, tags=tags, record=record, trained=trained) as run:
        run.log({"accuracy/pgd_0.1": accuracy})
    return record


def client(uri: str = "") -> MlflowClient:
    return MlflowClient(tracking_uri=store_uri(uri))


def runs(model: str, uri: str = "") -> list[Any]:
    """The newest first."""
    experiment = client(uri).get_experiment_by_name("digits")
    return list(client(uri).search_runs([experiment.experiment_id], f"tags.model = '{model}'"))


def content(run: Any, uri: str = "") -> dict[str, Any]:
    """Of a run, what does not depend on when and from where it was recorded."""
    history = {
        name: [(point.step, point.value) for point in client(uri).get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if name != "images_per_second"
    }
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith(("mlflow.", "git_"))}
    artifacts = sorted(file.path for file in client(uri).list_artifacts(run.info.run_id))
    return {"params": run.data.params, "tags": tags, "history": history, "artifacts": artifacts, "status": run.info.status}
