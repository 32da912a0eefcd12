"""The whole pipeline as DVC runs it, on a small profile in a folder of its own: what a change re-runs, what a kill costs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


def small_params() -> dict[str, Any]:
    """The shipped params on one epoch, 20 images and three methods."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["root"] = str(ROOT)
    params["run"] |= {
        "methods": ["softmax_fs", "hcp", "center"],
        "scratch": ["softmax_fs"],
        "finetune": ["hcp", "center"],
        "attacks": ["fgsm", "bim"],
    }
    digits = params["datasets"]["digits"]
    digits["network"] |= {"widths": [8], "gap": 8, "fc": 8}
    digits["training"]["epochs"] = {"pretrain": 1, "train": 1}
    digits["evaluation"] |= {"eps": [0.15], "images": 20, "keep_images": 3}
    params["noise"]["steps"] = 3
    return params


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)


def repro(folder: Path) -> list[str]:
    """The stages that `dvc repro` ran."""
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its own params.yaml and a copy of dvc.yaml, reproduced once."""
    folder = tmp_path_factory.mktemp("profile")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        assert run(folder, *command).returncode == 0
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    write_params(folder, small_params())
    stages = repro(folder)
    models = [
        f"{part}@digits-{name}-0"
        for part, name in (("pretrain", "softmax"), ("scratch", "softmax_fs"), ("finetune", "hcp"), ("finetune", "center"))
    ]
    attacks = [f"attack@digits-{name}-0" for name in ("softmax_fs", "hcp", "center")]
    assert sorted(stages) == sorted(["data@digits", *models, *attacks, "tables", "figures", "report"])
    return folder


def test_every_output_is_there_and_says_the_same(profile: Path) -> None:
    outcomes = pd.read_parquet(profile / "data/attacks/digits/hcp/0/outcomes.parquet")
    assert set(map(tuple, outcomes[["attack", "eps"]].drop_duplicates().values)) == {
        ("clean", 0.0), ("fgsm", 0.15), ("bim", 0.15), ("noise_sample", 5.0), ("noise_batch", 5.0)
    }  # fmt: skip
    assert len(outcomes) == 5 * 20
    attacked = outcomes[outcomes.attack == "bim"]
    assert attacked.linf.max() <= 0.15 + 1e-6
    assert (attacked.correct == (attacked.prediction == attacked.label)).all()
    clean = 100 * outcomes[outcomes.attack == "clean"].correct.mean()
    with (profile / "metrics/tables/hcp_table1.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if (row["dataset"], row["method"]) == ("digits", "hcp"))
    assert float(row["measured"]) == pytest.approx(clean)
    assert json.loads((profile / "metrics/summary.json").read_text())["digits"]["hcp"]["clean"] == pytest.approx(clean, abs=0.01)
    report = (profile / "metrics/report.md").read_text()
    assert "digits" in report
    for name in ("hcp_figure2.png", "hcp_figure3.png", "hcp_critical_difference.png"):
        assert (profile / "metrics/figures" / name).stat().st_size > 5000
        assert f"figures/{name}" in report
    with (profile / "metrics/training/digits/hcp/0.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    model = torch.load(profile / "models/digits/hcp/0.pt", weights_only=True)
    assert {name.split(".")[-1] for name in model["prototypes"]} == {"centres", "radii"}
    assert model["params"]["method"]["loss"]["name"] == "hcp"


def test_a_second_repro_runs_nothing_and_adds_no_mlflow_run(profile: Path) -> None:
    before = mlflow_runs(profile)
    assert repro(profile) == []
    assert mlflow_runs(profile) == before
    assert {name for name, _ in before} >= {"training", "robustness", "report"}
    assert sum(experiment == "training" for experiment, _ in before) == 4
    assert sum(experiment == "robustness" for experiment, _ in before) == 3


def test_a_change_of_one_method_runs_its_branch_and_what_reports_it(profile: Path) -> None:
    params = small_params()
    params["methods"]["hcp"]["loss"]["e"] = 0.002
    write_params(profile, params)
    diff = run(profile, "dvc", "repro", "--dry").stdout
    assert "finetune@digits-hcp-0" in diff
    assert repro(profile) == ["finetune@digits-hcp-0", "attack@digits-hcp-0", "tables", "figures", "report"]
    write_params(profile, small_params())
    assert run(profile, "dvc", "repro").returncode == 0  # from the run cache where it can be
    assert repro(profile) == []


def test_a_killed_training_goes_on_from_its_last_epoch(profile: Path, tmp_path: Path) -> None:
    params = small_params()
    params["datasets"]["digits"]["training"]["epochs"] = {"pretrain": 1, "train": 40}
    (tmp_path / "data").symlink_to(profile / "data")
    (tmp_path / "models").symlink_to(profile / "models")
    write_params(tmp_path, params)
    command = [sys.executable, "-m", "stages.train", "digits", "center", "7"]
    (profile / "models/digits/softmax/7.pt").write_bytes((profile / "models/digits/softmax/0.pt").read_bytes())
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".ckpt/*/*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkpoint,) = tmp_path.glob(".ckpt/*/*/last.pt")
    done = len(torch.load(checkpoint, weights_only=True)["rows"])
    assert 0 < done < 40
    assert not (profile / "models/digits/center/7.pt").exists()

    params["methods"]["center"]["loss"]["weight"] = 0.5  # other params do not pick it up
    write_params(tmp_path, params)
    params["datasets"]["digits"]["training"]["epochs"]["train"] = 1
    write_params(tmp_path, params)
    assert "going on after" not in run(tmp_path, *command[:4], "center", "0").stderr
    assert checkpoint.exists()

    params = small_params()
    params["datasets"]["digits"]["training"]["epochs"] = {"pretrain": 1, "train": 40}
    write_params(tmp_path, params)
    resumed = run(tmp_path, *command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after epoch {done}" in resumed.stderr
    assert len((tmp_path / "metrics/training/digits/center/7.csv").read_text().splitlines()) == 41
    assert not list(tmp_path.glob(".ckpt/digits-center-7"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "digit", "hcp", "0"], "unknown dataset 'digit', choose from digits"),
        (["train", "digits", "hpc", "0"], "unknown method 'hpc', choose from at, center"),
        (["train", "digits", "hcp", "5"], "models/digits/softmax/5.pt does not exist; `dvc repro` makes it"),
        (["attack", "digits", "pcl", "0"], "models/digits/pcl/0.pt does not exist"),
    ],
)
def test_a_wrong_name_is_one_line_without_a_traceback(profile: Path, command: list[str], said: str) -> None:
    done = run(profile, sys.executable, "-m", f"stages.{command[0]}", *command[1:])
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["data", "train", "attack", "tables", "figures", "report"])
def test_every_script_has_help(profile: Path, stage: str) -> None:
    done = run(profile, sys.executable, "-m", f"stages.{stage}", "--help")
    assert done.returncode == 0
    assert f"usage: python -m stages.{stage}" in done.stdout
    assert "params.yaml" in done.stdout


def test_bad_params_stop_the_first_stage_with_all_problems(profile: Path, tmp_path: Path) -> None:
    params = small_params()
    params["methods"]["hcp"]["loss"]["e"] = -1
    params["datasets"]["digits"]["evaluation"]["eps"] = [-0.1]
    write_params(tmp_path, params)
    done = run(tmp_path, sys.executable, "-m", "stages.train", "digits", "softmax", "0")
    assert done.returncode == 2
    assert "methods.hcp.loss.e" in done.stderr
    assert "datasets.digits.evaluation.eps.0" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def mlflow_runs(folder: Path) -> set[tuple[str, str]]:
    code = (
        "import json; from mlflow.tracking import MlflowClient; from pipeline.tracking_writer import store_uri\n"
        "client = MlflowClient(tracking_uri=store_uri(''))\n"
        "names = {e.experiment_id: e.name for e in client.search_experiments()}\n"
        "print(json.dumps([[names[r.info.experiment_id], r.info.run_id] for r in client.search_runs(list(names))]))"
    )
    done = run(folder, sys.executable, "-c", code)
    return {(experiment, run_id) for experiment, run_id in json.loads(done.stdout.splitlines()[-1])}
