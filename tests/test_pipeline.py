"""The whole pipeline as DVC runs it, on a small profile in a folder of its own: what a change re-runs, what a kill costs."""

import csv
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from pydantic import BaseModel

from pipeline import config
from pipeline.evaluation.robustness import attacked
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params
from stages import settings

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
MAKE = ("make", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", "repro", "JOBS=2")


def small_params() -> dict[str, Any]:
    """The shipped params on one epoch, 20 images and three methods."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["root"] = str(ROOT)
    params["run"] |= {
        "methods": ["softmax_fs", "hcp", "center"],
        "scratch": ["softmax_fs"],
        "finetune": ["hcp", "center"],
        "hcp": ["softmax_fs", "hcp", "center"],
        "pcl": ["softmax_fs"],
        "attacks": ["fgsm", "bim"],
    }
    params["measure"] = {"softmax_fs": ["noise", "cw", "sweep"], "hcp": ["noise", "adaptive", "l2"], "center": ["noise"]}
    params["transfer"]["sources"] = ["softmax_fs"]
    params["planes"] = {"methods": ["hcp"], "epochs": [1]}
    params["cost"] = {"methods": ["softmax_fs", "hcp"], "repeats": 1}
    digits = params["datasets"]["digits"]
    digits["networks"]["main"] |= {"widths": [8, 8, 8, 8], "branch": 8, "penultimate": 8}
    digits["training"]["epochs"] = {"pretrain": 1, "train": 1}
    digits["evaluation"] |= {"eps": [0.05, 0.15], "sweep": [0.5], "c": [0.1], "cw_images": 5, "images": 20, "keep_images": 3}
    params["noise"]["steps"] = 3
    params["attacks"]["cw"]["steps"] = 3
    for parts in params["autoattack"].values():
        for part in parts.values():
            part |= {key: value for key, value in {"steps": 3, "queries": 5, "targets": 2}.items() if key in part}
    params["verdict"] |= {"adaptive": {"steps": 3, "restarts": 1, "targets": 2}, "steps": [1, 2], "examples": 2}
    return params


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)


def repro(folder: Path, *command: str) -> list[str]:
    """The stages that `dvc repro`, or another command, ran."""
    done = run(folder, *(command or ("dvc", "repro")))
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def changed(folder: Path) -> set[str]:
    """The stages that `dvc status` names, without their items."""
    done = run(folder, "dvc", "status", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return {name.split("@")[0] for name in json.loads(done.stdout)}


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its own params.yaml and a copy of dvc.yaml, reproduced once, two stages at a time."""
    folder = tmp_path_factory.mktemp("profile")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        assert run(folder, *command).returncode == 0
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    write_params(folder, small_params())
    stages = repro(folder, *MAKE)
    models = [
        f"{part}@digits-{name}-0"
        for part, name in (("pretrain", "softmax"), ("scratch", "softmax_fs"), ("finetune", "hcp"), ("finetune", "center"))
    ]
    attacks = [f"attack@digits-{name}-0" for name in ("softmax_fs", "hcp", "center")]
    others = ["transfer@digits-0", "planes@digits-hcp", "cost@digits"]
    first, last = ["code", "settings@digits", "data@digits"], ["tables", "figures", "cards", "report"]
    assert sorted(stages) == sorted([*first, *models, *attacks, *others, *last])
    return folder


def test_every_output_is_there_and_says_the_same(profile: Path) -> None:
    outcomes = pd.read_parquet(profile / "data/attacks/digits/hcp/0/outcomes.parquet")
    assert set(map(tuple, outcomes[["attack", "eps"]].drop_duplicates().values)) == {
        ("clean", 0.0), ("fgsm", 0.05), ("fgsm", 0.15), ("bim", 0.05), ("bim", 0.15),
        ("adaptive_fgsm", 0.15), ("adaptive_bim", 0.15),
        ("noise_sample", 5.0), ("noise_batch", 5.0)
    }  # fmt: skip
    assert len(outcomes) == 9 * 20
    plain, adaptive = (outcomes[(outcomes.attack == name) & (outcomes.eps == 0.15)] for name in ("bim", "adaptive_bim"))
    assert (plain.l2.to_numpy() != adaptive.l2.to_numpy()).any()  # another objective finds other images
    softmax = pd.read_parquet(profile / "data/attacks/digits/softmax_fs/0/outcomes.parquet")
    assert len(softmax[softmax.attack == "cw"]) == 5
    assert set(softmax[softmax.attack == "fgsm"].eps) == {0.05, 0.15, 0.5}
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
    assert {name.split(".")[-1] for name in model["criterion"]} == {"centres", "radii"}
    assert model["params"]["method"]["loss"]["name"] == "hcp"


def test_the_verdict_has_every_attack_and_both_norms(profile: Path) -> None:
    outcomes = pd.read_parquet(profile / "data/verdict/digits/hcp/0/outcomes.parquet")
    of = {name: rows.set_index("image") for name, rows in outcomes.groupby("attack")}
    whole = {
        "clean",
        "autoattack",
        "autoattack_l2",
        "adaptive",
        "adaptive/ce",
        "adaptive/dlr",
        "adaptive/joint",
        "adaptive/joint_t",
        "adaptive/features",
    }
    assert {name for name, rows in of.items() if len(rows) == 20} >= whole | {"steps/1", "steps/2", "unbounded"}
    for suite, eps, norm in (("autoattack", 0.15, "linf"), ("autoattack_l2", 0.6, "l2")):
        parts = [of[f"{suite}/{part}"] for part in ("apgd_ce", "apgd_t", "fab_t", "square") if f"{suite}/{part}" in of]
        assert parts[0].index.tolist() == of["clean"].index[of["clean"].correct].tolist()
        for before, after in itertools.pairwise(parts):
            assert after.index.tolist() == before.index[before.correct].tolist()
        assert of[suite].correct.sum() == parts[-1].correct.sum()
        assert of[suite][norm].max() <= eps + 1e-5
    assert of["autoattack_l2"].linf.max() > 0.15  # another ball
    names = ("ce", "dlr", "features", "joint", "joint_t")
    worst = pd.concat([of[f"adaptive/{name}"].correct for name in names], axis=1).all(axis=1)
    assert (of["adaptive"].correct == worst).all()
    other = pd.read_parquet(profile / "data/verdict/digits/softmax_fs/0/outcomes.parquet")
    assert set(other.attack) >= {"adaptive/features"}  # by class means
    assert not set(other.attack) & {"adaptive/joint", "autoattack_l2"}
    with np.load(profile / "data/verdict/digits/hcp/0/examples.npz") as examples:
        assert (examples["label"] != examples["prediction"]).all()
        assert np.abs(examples["adversarial"] - examples["clean"]).max(initial=0) <= 0.15 + 1e-6
        assert examples["classes"].tolist() == [str(i) for i in range(10)]
    checks = json.loads((profile / "data/verdict/digits/hcp/0/checks.json").read_text())
    assert checks["images"] == 20


def test_a_verdict_goes_on_after_the_last_attack_that_was_done(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.jobs import verdict

    monkeypatch.chdir(copy)
    params = small_params()
    params["tracking"]["enabled"] = False
    write_params(copy, params)
    folder = copy / "data/verdict/digits/hcp/0"
    wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    ran: list[str] = []

    def killed(model: Any, x: Any, y: Any, trial: Any, **options: Any) -> Any:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(trial.attack)
        return attacked(model, x, y, trial, **options)

    monkeypatch.setattr(verdict, "attacked", killed)
    with pytest.raises(KeyboardInterrupt):
        verdict.judge_model(load_params(lookups=LOOKUPS), "digits", "hcp", 0)
    assert not folder.exists()
    first, ran[:] = list(ran), []
    monkeypatch.setattr(
        verdict, "attacked", lambda model, x, y, trial, **o: ran.append(trial.attack) or attacked(model, x, y, trial, **o)
    )
    verdict.judge_model(load_params(lookups=LOOKUPS), "digits", "hcp", 0)
    assert len(first) == 3
    assert not set(first) & set(ran)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert not list(copy.glob(".ckpt/verdict-*"))


def test_parts_of_autoattack_can_be_run_alone_and_against_the_prototypes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.attack import main

    monkeypatch.chdir(copy)
    params = small_params()
    params["tracking"]["enabled"] = False
    parts = params["autoattack"]["rapid"]
    parts["square"]["queries"] = 60  # after a few both keep the same squares
    params["attacks"] |= parts
    params["run"]["attacks"] = list(parts)
    write_params(copy, params)
    main("digits", "hcp", 0)
    outcomes = pd.read_parquet(copy / "data/attacks/digits/hcp/0/outcomes.parquet")
    assert set(outcomes.attack) >= {*parts, *(f"adaptive_{part}" for part in parts)}
    for part in parts:
        plain, adaptive = (outcomes[(outcomes.attack == name) & (outcomes.eps == 0.15)] for name in (part, f"adaptive_{part}"))
        assert (plain.l2.to_numpy() != adaptive.l2.to_numpy()).any()


def test_white_box_transfer_is_what_the_attack_stage_measured(profile: Path) -> None:
    table = pd.read_csv(profile / "data/transfer/digits/0.csv")
    assert set(zip(table.source, table.target, strict=True)) == {("softmax_fs", name) for name in ("softmax_fs", "hcp", "center")}
    assert set(table.attack) == {"fgsm", "bim", "cw"}
    outcomes = pd.read_parquet(profile / "data/attacks/digits/softmax_fs/0/outcomes.parquet")
    for row in table[table.target == "softmax_fs"].itertuples():
        own = outcomes[(outcomes.attack == row.attack) & (outcomes.eps == row.eps)]
        # there an image rests once it is misclassified, here its last point counts: the images are to fool other models
        measured = 100 * own.correct.mean()
        assert row.accuracy >= measured - 1e-3 if row.attack == "bim" else row.accuracy == pytest.approx(measured, abs=1e-3)
        assert row.images == len(own)
        assert row.eps == (0.1 if row.attack == "cw" else 0.15)


def test_planes_and_cost_hold_what_the_figures_and_table_12_need(profile: Path) -> None:
    with np.load(profile / "data/planes/digits/hcp.npz") as plane:
        assert plane["epochs"].tolist() == [1]
        assert plane["clean"].shape == (1, 20, 2)
        assert plane["adversarial"].shape == (20, 2)
        assert plane["centres"].shape == (1, 10, 2)
        assert plane["correct"].dtype == bool
        assert 0 <= plane["accuracy"][0] <= 100
    cost = pd.read_csv(profile / "data/cost/digits.csv")
    assert list(zip(cost.method, cost.repeat, strict=True)) == [("softmax_fs", 1), ("hcp", 1)]
    assert (cost.seconds > 0).all()


def test_a_second_repro_runs_nothing_and_adds_no_mlflow_run(profile: Path) -> None:
    before = mlflow_runs(profile)
    assert repro(profile) == []
    assert repro(profile, *MAKE) == []
    assert mlflow_runs(profile) == before
    assert {name for name, _ in before} >= {"training", "robustness", "report"}
    assert sum(experiment == "training" for experiment, _ in before) == 4
    assert sum(experiment == "robustness" for experiment, _ in before) == 3
    assert sum(experiment == "verdict" for experiment, _ in before) == 3


def test_a_change_of_one_method_runs_its_branch_and_what_reports_it(profile: Path) -> None:
    params = small_params()
    params["methods"]["hcp"]["loss"]["e"] = 0.002
    write_params(profile, params)
    assert repro(profile, "dvc", "repro", "settings") == ["settings@digits"]
    first = ["finetune@digits-hcp-0", "planes@digits-hcp", "cost@digits"]
    concerned = json.loads(run(profile, "dvc", "status", "--json").stdout)
    assert sorted(concerned) == sorted([*first, "report"])  # report has all of params.yaml
    assert "metrics/settings/digits/train/hcp.yaml" in json.dumps(concerned["finetune@digits-hcp-0"])
    rest = ["attack@digits-hcp-0", "transfer@digits-0", "tables", "figures", "cards", "report"]
    assert sorted(repro(profile, *MAKE)) == sorted([*first, *rest])
    write_params(profile, small_params())
    assert run(profile, "dvc", "repro").returncode == 0  # from the run cache where it can be
    assert repro(profile) == []


def test_a_change_of_code_runs_what_it_concerns_unless_the_results_are_taken_as_they_are(profile: Path, tmp_path: Path) -> None:
    but_the_store = shutil.ignore_patterns("mlflow")  # its writer may be at work
    shutil.copytree(profile, tmp_path, ignore=but_the_store, dirs_exist_ok=True, symlinks=True)
    for room in ("pipeline", "stages"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    write_params(tmp_path, {**small_params(), "root": "."})
    assert repro(tmp_path, "dvc", "repro", "code") == ["code"]
    assert repro(tmp_path, "dvc", "commit", "-f") == []
    assert changed(tmp_path) == set()
    losses = tmp_path / "pipeline/losses/__init__.py"
    losses.write_text(losses.read_text() + "# a new one\n")
    assert changed(tmp_path) == {"code"}
    assert repro(tmp_path, "dvc", "repro", "code") == ["code"]
    tested = {"attack", "transfer"}
    assert changed(tmp_path) == {"pretrain", "scratch", "finetune", "planes", "cost"} | tested
    assert repro(tmp_path, "dvc", "commit", "-f", "pretrain", "scratch", "finetune", "planes", "cost") == []
    assert changed(tmp_path) == tested
    assert repro(tmp_path, "dvc", "repro", "finetune") == []


@pytest.fixture
def copy(profile: Path, tmp_path: Path) -> Path:
    """A copy of the profile's params, data and models, to do things to."""
    for name in ("data", "models", "metrics"):
        shutil.copytree(profile / name, tmp_path / name)
    write_params(tmp_path, small_params())
    return tmp_path


def test_a_killed_training_goes_on_from_its_last_epoch_and_other_params_do_not_pick_it_up(copy: Path) -> None:
    params = small_params()
    params["datasets"]["digits"]["training"]["epochs"]["train"] = 300
    params["tracking"]["enabled"] = False
    write_params(copy, params)
    (copy / "models/digits/center/0.pt").unlink()
    command = [sys.executable, "-m", "stages.train", "digits", "center", "0"]
    process = subprocess.Popen(command, cwd=copy, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(copy.glob(".ckpt/*/*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkpoint,) = copy.glob(".ckpt/*/*/last.pt")
    done = len(torch.load(checkpoint, weights_only=True)["rows"])
    assert 0 < done < 300
    assert not (copy / "models/digits/center/0.pt").exists()

    saved = checkpoint.read_bytes()
    params["methods"]["center"]["loss"]["weight"] = 0.5
    params["datasets"]["digits"]["training"]["epochs"]["train"] = 1
    write_params(copy, params)
    other = run(copy, *command)
    assert other.returncode == 0, other.stderr
    assert "going on after" not in other.stderr
    assert not list(copy.glob(".ckpt/digits-center-0"))

    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(saved)
    params["methods"]["center"]["loss"]["weight"] = small_params()["methods"]["center"]["loss"]["weight"]
    params["datasets"]["digits"]["training"]["epochs"]["train"] = 300
    write_params(copy, params)
    resumed = run(copy, *command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after epoch {done}" in resumed.stderr
    assert len((copy / "metrics/training/digits/center/0.csv").read_text().splitlines()) == 301
    assert not list(copy.glob(".ckpt/digits-center-0"))


class Recorder:
    """Params that write down which of their values are read."""

    def __init__(self, value: Any, path: str, read: set[str]) -> None:
        self.__dict__ |= {"_value": value, "_path": path, "_read": read}

    def _child(self, name: str, value: Any) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if isinstance(value, BaseModel | dict):
            return Recorder(value, path, self._read)
        self._read.add(path)
        return value

    def __getattr__(self, name: str) -> Any:
        if isinstance(self._value, BaseModel) and name in type(self._value).model_fields:
            return self._child(name, getattr(self._value, name))
        if name == "keys":
            return lambda: list(self._value)
        if name == "items":
            return lambda: [(key, self._child(key, value)) for key, value in self._value.items()]
        if name == "model_dump":
            return self._dump
        self._read.add(self._path)  # another method: all of it
        return getattr(self._value, name)

    def _dump(self, exclude: frozenset[str] = frozenset()) -> dict[str, Any]:
        self._read.update(f"{self._path}.{name}" for name in type(self._value).model_fields if name not in exclude)
        content: dict[str, Any] = self._value.model_dump(exclude=set(exclude))
        return content

    def __getitem__(self, name: str) -> Any:
        return self._child(name, self._value[name])

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def __iter__(self) -> Any:
        return iter(self._value)


@pytest.mark.parametrize(
    ("stage", "item"),
    [
        ("data", {"dataset": "digits"}),
        ("pretrain", {"dataset": "digits", "method": "softmax", "seed": 0}),
        ("scratch", {"dataset": "digits", "method": "softmax_fs", "seed": 0}),
        ("finetune", {"dataset": "digits", "method": "hcp", "seed": 0}),
        ("attack", {"dataset": "digits", "method": "hcp", "seed": 0}),
        ("attack", {"dataset": "digits", "method": "softmax_fs", "seed": 0}),
        ("transfer", {"dataset": "digits", "seed": 0}),
        ("planes", {"dataset": "digits", "method": "hcp"}),
        ("cost", {"dataset": "digits"}),
        ("tables", {}),
        ("figures", {}),
        ("cards", {}),
        ("report", {}),
    ],
)
def test_dvc_lists_exactly_the_params_that_a_stage_reads(
    stage: str, item: dict[str, Any], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    params = small_params()
    params["tracking"]["enabled"] = False
    params["measure"]["softmax_fs"].append("l2")  # headline_l2 is listed for whoever measures in it
    params["methods"]["hcp"]["adversary"] = params["methods"]["at"]["adversary"]  # its eps is drawn from a range of the data set
    write_params(copy, params)
    wanted = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    script = wanted["cmd"].split("stages.")[1].split()[0]
    module = importlib.import_module(f"stages.{script}")
    read: set[str] = set()
    recorded = Recorder(load_params(lookups=LOOKUPS), "", read)
    monkeypatch.setattr(module if hasattr(module, "load_params") else config, "load_params", lambda **_: recorded)
    module.main(*item.values())

    def in_item(name: str) -> str:
        return re.sub(r"\${item\.(\w+)}", lambda match: str(item[match[1]]), name)

    listed = [in_item(path) for path in wanted.get("params", [])]
    listed = [path.replace("${verdict.autoattack}", params["verdict"]["autoattack"]) for path in listed]
    settings.main("digits")
    for file in (path for path in wanted["deps"] if path.startswith("metrics/settings/")):
        listed += yaml.safe_load(Path(in_item(file)).read_text())

    def covers(path: str, other: str) -> bool:
        return other == path or other.startswith(f"{path}.")

    unlisted = {path for path in read if not any(covers(entry, path) for entry in listed)}
    assert {path for path in unlisted if path.split(".")[0] != "tracking"} == set()  # where runs are logged decides no result
    assert [entry for entry in listed if not any(covers(entry, path) or covers(path, entry) for path in read)] == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "digit", "hcp", "0"], "unknown dataset 'digit', choose from digits"),
        (["train", "digits", "hpc", "0"], "unknown method 'hpc', choose from adp, at, at_fgsm"),
        (["train", "digits", "hcp", "5"], "models/digits/softmax/5.pt does not exist; `dvc repro` makes it"),
        (["attack", "digits", "pcl", "0"], "models/digits/pcl/0.pt does not exist"),
    ],
)
def test_a_wrong_name_is_one_line_without_a_traceback(profile: Path, command: list[str], said: str) -> None:
    done = run(profile, sys.executable, "-m", f"stages.{command[0]}", *command[1:])
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py")))
def test_every_script_has_help(profile: Path, stage: str) -> None:
    done = run(profile, sys.executable, "-m", f"stages.{stage}", "--help")
    assert done.returncode == 0
    assert f"usage: python -m stages.{stage}" in done.stdout
    assert "params.yaml" in done.stdout


def test_bad_params_stop_the_first_stage_with_all_problems(tmp_path: Path) -> None:
    params = small_params()
    params["methods"]["hcp"]["loss"]["e"] = -1
    params["datasets"]["digits"]["evaluation"]["eps"] = [-0.1]
    write_params(tmp_path, params)
    done = run(tmp_path, sys.executable, "-m", "stages.data", "digits")
    assert done.returncode == 2
    assert "methods.hcp.loss.e" in done.stderr
    assert "datasets.digits.evaluation.eps.0" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def mlflow_runs(folder: Path) -> set[tuple[str, str]]:
    code = (
        "import json; from mlflow.tracking import MlflowClient; from pipeline.tracking import store_uri\n"
        "from pipeline.ui import write_pending; write_pending()\n"
        "client = MlflowClient(tracking_uri=store_uri(''))\n"
        "names = {e.experiment_id: e.name for e in client.search_experiments()}\n"
        "print(json.dumps([[names[r.info.experiment_id], r.info.run_id] for r in client.search_runs(list(names))]))"
    )
    done = run(folder, sys.executable, "-c", code)
    return {(experiment, run_id) for experiment, run_id in json.loads(done.stdout.splitlines()[-1])}
