"""The whole pipeline as DVC runs it, on a small profile in a folder of its own: what a change re-runs, what a kill costs."""

import csv
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
from dvc.utils.serialize import dumps_yaml
from sklearn.datasets import load_digits

from benchmarks.faults.small import small_params
from pipeline.evaluation.robustness import attacked
from pipeline.jobs.attack import attack_model
from pipeline.jobs.plan.stale import stale_items
from pipeline.params.items import AttackItem, read_item
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, write_items
from pipeline.params.schema import load_params
from pipeline.tracking.store import Settings

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
METHODS = ("softmax_fs", "hcp", "center")
MAKE = ("make", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", "repro", "JOBS=2")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=3600)


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
    (folder / "params.yaml").write_text(dumps_yaml(json.loads(json.dumps(params))))  # in the form of DVC, nothing by reference


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its own params.yaml and a copy of dvc.yaml, reproduced once, two items at a time, and committed."""
    folder = tmp_path_factory.mktemp("profile")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        assert run(folder, *command).returncode == 0
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        (folder / name).write_text((ROOT / name).read_text())
    (folder / "data/given").mkdir(parents=True)
    write_params(folder, small_params())
    stages = repro(folder, *MAKE)
    models = ["pretrain@digits-0", "sources@digits-vgg-0", *(f"finetune@digits-{name}-0" for name in METHODS)]
    attacks = [f"attack@digits-{name}-0" for name in METHODS]
    others = ["transfer@digits-0", "planes@digits", "cost@digits"]
    first, last = ["items", "data@digits"], ["tables", "figures", "cards", "report"]
    assert sorted(stages) == sorted([*first, *models, *attacks, *others, *last])
    commit(folder, "results")
    return folder


def commit(folder: Path, message: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for command in (["add", "-A"], ["commit", "-qm", message]):
        assert run(folder, "git", *author, *command).returncode == 0


def test_an_item_that_fails_stops_only_what_needs_it(tmp_path: Path) -> None:
    """A made dvc.yaml with the groups of stages of the real one: b cannot be trained, so it cannot be attacked."""
    groups = {"data": "items", "pretrain": "data@a", "planes": "data@a", "sources": "data@a", "finetune": "data@${item}"}
    groups |= {"transfer": "finetune@a", "attack": "finetune@${item}"}
    made = {
        name: {
            "foreach": ["a", "b"],
            "do": {
                "cmd": f"test {name}@${{item}} != finetune@b && touch {name}@${{item}}",
                "deps": [dep],
                "outs": [f"{name}@${{item}}"],
            },
        }
        for name, dep in groups.items()
    }
    single = {"items": [], "planned": ["items"], "tables": ["attack@a", "attack@b"]}
    stages = made | {name: {"cmd": f"echo > {name}", "deps": deps, "outs": [name]} for name, deps in single.items()}
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        assert run(tmp_path, *command).returncode == 0
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    done = run(tmp_path, *MAKE)
    assert done.returncode != 0
    assert "planes sources finetune: some failed" in done.stdout
    outs = {*single, *(f"{name}@{item}" for name in groups for item in "ab")}
    assert {name for name in outs if not (tmp_path / name).exists()} == {"finetune@b", "attack@b", "tables"}


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
    table = pd.read_csv(profile / "metrics/tables/hcp.csv", dtype={"table": str})
    row = table[(table.table == "1") & (table.dataset == "digits") & (table.method == "hcp")]
    assert row.measured.tolist() == pytest.approx([clean])
    assert json.loads((profile / "metrics/summary.json").read_text())["digits"]["hcp"]["clean"] == pytest.approx(clean, abs=0.01)
    report = (profile / "metrics/report.md").read_text()
    assert "digits" in report
    for name in ("hcp_figure2.png", "hcp_figure3.png", "hcp_critical_difference.png"):
        assert (profile / "metrics/figures" / name).stat().st_size > 5000
        assert f"figures/{name}" in report
    with (profile / "models/digits/hcp/0.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    model = torch.load(profile / "models/digits/hcp/0.pt", weights_only=True)
    assert {name.split(".")[-1] for name in model["criterion"]} == {"centres", "radii"}
    assert model["params"]["recipe"]["loss"]["name"] == "hcp"
    assert "planes: pcl_deep is not in run.methods" in report
    assert "cost: triplet is not in run.methods" in report


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


def attack_again(folder: Path, params: dict[str, Any]) -> None:
    """Stage attack on HCP in this process, in `folder`, with other params."""
    write_params(folder, params)
    write_items(load_params(lookups=LOOKUPS))
    attack_model(read_item(AttackItem, "digits", "attack", "hcp"), 0, Settings(enabled=False, uri="", experiment="digits"))


@pytest.mark.parametrize("last", ["noise_sample", "adaptive/dlr"])
def test_attacks_go_on_after_the_last_that_was_done(last: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed among the papers' attacks, and in the verdict."""
    from pipeline.jobs import trials

    monkeypatch.chdir(copy)
    folder = copy / "data/verdict/digits/hcp/0"
    wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    ran: list[tuple[str, float]] = []

    def once(model: Any, x: Any, y: Any, trial: Any, **options: Any) -> Any:
        ran.append((trial.attack, trial.eps))
        return attacked(model, x, y, trial, **options)

    def killed(model: Any, x: Any, y: Any, trial: Any, **options: Any) -> Any:
        if trial.attack == last:
            raise KeyboardInterrupt
        return once(model, x, y, trial, **options)

    monkeypatch.setattr(trials, "attacked", killed)
    with pytest.raises(KeyboardInterrupt):
        attack_again(copy, small_params())
    assert not folder.exists()
    first, ran[:] = list(ran), []
    monkeypatch.setattr(trials, "attacked", once)
    attack_again(copy, small_params())
    assert len(first) > 2
    assert not set(first) & set(ran)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert not list(copy.glob(".ckpt/attack-*"))


def test_parts_of_autoattack_can_be_run_alone_and_against_the_prototypes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    params = small_params()
    parts = ("apgd", "apgd_targeted", "fab", "square")
    params["attacks"] |= {
        "apgd": {"name": "apgd", "steps": 3, "restarts": 1},
        "apgd_targeted": {"name": "apgd_targeted", "steps": 3, "targets": 2, "restarts": 1},
        "fab": {"name": "fab", "steps": 3, "targets": 2, "restarts": 1},
        "square": {"name": "square", "queries": 60, "p_init": 0.8},  # after a few both keep the same squares
    }
    params["run"]["attacks"] = list(parts)
    attack_again(copy, params)
    outcomes = pd.read_parquet(copy / "data/attacks/digits/hcp/0/outcomes.parquet")
    assert set(outcomes.attack) >= {*parts, *(f"adaptive_{part}" for part in parts)}
    for part in parts:
        plain, adaptive = (outcomes[(outcomes.attack == name) & (outcomes.eps == 0.15)] for name in (part, f"adaptive_{part}"))
        assert (plain.l2.to_numpy() != adaptive.l2.to_numpy()).any()


def test_white_box_transfer_is_what_the_attack_stage_measured(profile: Path) -> None:
    table = pd.read_csv(profile / "data/transfer/digits/0.csv")
    pairs = itertools.product(("vgg", "softmax_fs"), ("vgg", *METHODS))  # madry is not in the run
    assert set(zip(table.source, table.target, strict=True)) == set(pairs)
    assert set(table.attack) == {"fgsm", "bim", "cw"}
    outcomes = pd.read_parquet(profile / "data/attacks/digits/softmax_fs/0/outcomes.parquet")
    for row in table[(table.source == "softmax_fs") & (table.target == "softmax_fs")].itertuples():
        own = outcomes[(outcomes.attack == row.attack) & (outcomes.eps == row.eps)]
        # there an image is left alone once it is misclassified, here its last point counts: the images are to fool other models
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
    assert {name for name, _ in before} == {f"digits/{name}/0" for name in ("softmax", "vgg", *METHODS)}  # one run a model
    assert run(profile, sys.executable, "-m", "stages.sync").stdout.splitlines()[-1] == "0 runs recorded"
    assert mlflow_runs(profile) == before


def test_an_experiment_changes_one_line_and_runs_what_hangs_on_it(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-S`, `dvc params diff`, `dvc exp show` and `dvc metrics diff` as a DVC user knows them."""
    monkeypatch.chdir(profile)
    text = Path("params.yaml").read_text()
    assert stale_items(all_items(load_params(lookups=LOOKUPS))) == set()
    assert text.count("negative: 1.0") == 1
    Path("params.yaml").write_text(text.replace("negative: 1.0", "negative: 0.5"))
    expected = stale_items(all_items(load_params(lookups=LOOKUPS)))
    Path("params.yaml").write_text(text)
    try:
        done = run(profile, "dvc", "exp", "run", "-n", "half", "-S", "methods.hcp.loss.negative=0.5")
        assert done.returncode == 0, done.stdout + done.stderr
        ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
        assert set(ran) == expected
        of_hcp = ["items", "finetune@digits-hcp-0", "attack@digits-hcp-0"]
        assert sorted(ran) == sorted(
            [*of_hcp, "planes@digits", "cost@digits", "transfer@digits-0", "tables", "figures", "cards", "report"]
        )
        assert run(profile, "git", "diff", "--numstat", "params.yaml").stdout == "1\t1\tparams.yaml\n"
        assert len(run(profile, "git", "diff", "--name-only").stdout.splitlines()) <= 25
        difference = json.loads(run(profile, "dvc", "params", "diff", "--json").stdout)
        assert difference == {"params.yaml": {"methods.hcp.loss.negative": {"old": 1.0, "new": 0.5, "diff": -0.5}}}
        metrics = run(profile, "dvc", "metrics", "diff", "--all", "--md").stdout
        assert "digits.hcp.clean" in metrics
        header, *rows = csv.reader(run(profile, "dvc", "exp", "show", "--csv").stdout.splitlines())
        column = next(i for i, name in enumerate(header) if name.endswith("methods.hcp.loss.negative"))
        assert {row[0] or row[1]: row[column] for row in rows if "0.5" in row} == {"half": "0.5", "workspace": "0.5"}
    finally:
        assert run(profile, "git", "checkout", "-q", ".").returncode == 0
        assert run(profile, "dvc", "checkout", "-q").returncode == 0
    assert repro(profile) == []


@pytest.mark.slow
def test_a_queued_grid_runs_each_value(profile: Path) -> None:
    done = run(profile, "dvc", "exp", "run", "--queue", "-S", "methods.hcp.loss.negative=0.25,0.75")
    assert done.returncode == 0, done.stderr
    done = run(profile, "dvc", "exp", "run", "--run-all")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = run(profile, "dvc", "exp", "show", "--csv").stdout
    header, *rows = csv.reader(shown.splitlines())
    column = next(i for i, name in enumerate(header) if name.endswith("methods.hcp.loss.negative"))
    assert {row[column] for row in rows} >= {"0.25", "0.75", "1.0"}
    assert run(profile, "git", "status", "--porcelain", "params.yaml").stdout == ""
    assert repro(profile) == []


def test_a_new_loss_as_documented_concerns_its_own_items_and_the_tables(profile: Path, tmp_path: Path) -> None:
    """The documentation's text of it, word by word, in a copy of the repository whose results are taken as they are."""
    for name in ("dvc.yaml", "dvc.lock", ".gitignore", ".dvc", "data", "models", "metrics"):
        copy_any(profile / name, tmp_path / name)
    for name in ("pipeline", "stages"):
        copy_any(ROOT / name, tmp_path / name)
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    assert run(tmp_path, "git", "init", "-q").returncode == 0
    own = small_params() | {"root": ".", "extends": "base.yaml", "tracking": {"enabled": False}}
    shutil.copy(ROOT / "params.yaml", tmp_path / "base.yaml")
    write_params(tmp_path, own)
    assert repro(tmp_path, "dvc", "repro", "items") == ["items"]
    assert repro(tmp_path, "dvc", "commit", "-f") == []
    assert json.loads(run(tmp_path, "dvc", "status", "--json").stdout) == {}

    text_of_it = (ROOT / "docs/experiments.md").read_text().partition("## Adding a loss")[2]
    file, lookup, entry = re.findall(r"```(?:python|yaml)\n(.*?)```", text_of_it, flags=re.DOTALL)[:3]
    (tmp_path / "pipeline/losses/repel.py").write_text(file)
    imported, named = lookup.splitlines()
    losses = tmp_path / "pipeline/losses/__init__.py"
    text = losses.read_text().replace("from pipeline.losses.triplet", f"{imported}\nfrom pipeline.losses.triplet")
    begin = "LOSSES: dict[str, type[nn.Module]] = {"
    losses.write_text(text.replace(begin, f"{begin}\n{named}"))
    base = tmp_path / "base.yaml"
    base.write_text(base.read_text().replace("methods:\n  softmax:", f"methods:\n{entry}  softmax:"))
    own["run"]["methods"].append("repel")
    write_params(tmp_path, own)

    assert repro(tmp_path, "dvc", "repro", "items") == ["items"]
    concerned = set(json.loads(run(tmp_path, "dvc", "status", "--json").stdout))
    tables = {"tables", "figures", "cards", "report"}
    assert concerned == {"finetune@digits-repel-0", "attack@digits-repel-0", "transfer@digits-0"} | tables
    assert repro(tmp_path, "dvc", "repro", "attack@digits-repel-0") == ["finetune@digits-repel-0", "attack@digits-repel-0"]
    model = torch.load(tmp_path / "models/digits/repel/0.pt", weights_only=True)
    assert {name.split(".")[-1] for name in model["criterion"]} == {"centres"}


THEIRS = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_a_given_model_as_documented_has_a_row_in_every_table(copy: Path) -> None:
    """The documentation's text of it, word by word."""
    text = (ROOT / "docs/judging.md").read_text().partition("# Judging your own model")[2]
    own = small_params() | {"tracking": {"enabled": False}}
    own["methods"] |= yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0])
    own["run"]["methods"].append("theirs")
    write_params(copy, own)
    (copy / "data/given/theirs.py").write_text(THEIRS)
    torch.manual_seed(0)
    bunch, model = load_digits(), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(bunch.images / 16).float())
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(bunch.target)).backward()
        optimizer.step()
    torch.save(model.state_dict(), copy / "data/given/theirs.pt")
    for command in ("items", "train digits theirs 0", "attack digits theirs 0", "transfer digits 0", "tables", "cards", "report"):
        done = run(copy, sys.executable, "-m", *f"stages.{command}".split())
        assert done.returncode == 0, done.stderr
    for name in ("hcp", "pcl", "verdict", "verdict_status"):
        assert {*pd.read_csv(copy / f"metrics/tables/{name}.csv")["method"]} >= {"softmax_fs", "theirs"}, name
    assert "theirs" in {*pd.read_csv(copy / "data/transfer/digits/0.csv")["target"]}
    assert "Theirs" in (copy / "metrics/report.md").read_text()
    clean = json.loads((copy / "metrics/summary.json").read_text())["digits"]["theirs"]["clean"]
    assert clean > 85  # of 20 images


@pytest.mark.parametrize("name", ["hcp", "pcl", "mnist"])
def test_a_paper_s_profile_starts_as_git_has_it(tmp_path: Path, name: str) -> None:
    assert run(ROOT, "git", "checkout-index", "--all", f"--prefix={tmp_path}/").returncode == 0
    assert run(tmp_path, "git", "init", "-q").returncode == 0
    assert repro(tmp_path, "dvc", "--cd", f"profiles/{name}", "repro", "items") == ["items"]


@pytest.mark.slow
@pytest.mark.skipif("PIPELINE_IMAGES" not in os.environ, reason="PIPELINE_IMAGES names no folder with parquet files of the sets")
def test_one_method_of_a_small_profile_runs_on_500_real_images(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "profiles/mnist/params.yaml").read_text())
    params |= {"extends": str(ROOT / "params.yaml"), "root": str(ROOT), "tracking": {"enabled": False}}
    params["images"] = {"form": "parquet", "folder": os.environ["PIPELINE_IMAGES"]}
    params["run"] |= {"methods": ["softmax_fs"]}
    params["datasets"]["mnist"] |= {"sample": {"train": 500, "test": 100, "seed": 0}}
    params["datasets"]["mnist"]["training"] |= {"epochs": {"pretrain": 10, "train": 10}, "batch_size": 16}
    params["datasets"]["mnist"]["evaluation"] = {"l2": {"images": 10}, "headline": {"images": 20}}
    params["attacks"] = {"cw": {"steps": 20}}
    params["transfer"]["sources"] = []
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        assert run(tmp_path, *command).returncode == 0
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data/given").mkdir(parents=True)
    write_params(tmp_path, params)
    assert "report" in repro(tmp_path)
    assert repro(tmp_path) == []
    table = pd.read_csv(tmp_path / "metrics/tables/pcl.csv", dtype={"table": str})
    clean = table[(table.table == "3") & (table.dataset == "mnist") & (table.method == "softmax_fs") & (table.attack == "clean")]
    assert clean.published.tolist() == [98.71]
    assert clean.measured.item() > 50
    assert clean.images.item() == 100


def copy_any(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "tmp"), symlinks=True)
    else:
        shutil.copy(source, target)


@pytest.fixture
def copy(profile: Path, tmp_path: Path) -> Path:
    """A copy of the profile's params, data and models, to do things to."""
    for name in ("data", "models", "metrics"):
        shutil.copytree(profile / name, tmp_path / name)
    write_params(tmp_path, small_params())
    return tmp_path


def test_a_killed_training_goes_on_from_its_last_epoch_and_other_params_do_not_pick_it_up(copy: Path) -> None:
    def params(epochs: int, weight: float) -> None:
        own = small_params() | {"tracking": {"enabled": False}}
        own["datasets"]["digits"]["training"]["epochs"]["train"] = epochs
        own["methods"]["center"] = {"loss": {"weight": weight}}
        write_params(copy, own)
        assert run(copy, sys.executable, "-m", "stages.items").returncode == 0

    params(300, 0.01)
    (copy / "models/digits/center/0.pt").unlink()
    command = [sys.executable, "-m", "stages.train", "digits", "center", "0"]
    process = subprocess.Popen(command, cwd=copy, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(copy.glob(".ckpt/train-*/*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkpoint,) = copy.glob(".ckpt/train-*/*/last.pt")
    done = len(torch.load(checkpoint, weights_only=True)["rows"])
    assert 0 < done < 300
    assert not (copy / "models/digits/center/0.pt").exists()

    params(1, 0.5)
    other = run(copy, *command)
    assert other.returncode == 0, other.stderr
    assert "going on after" not in other.stderr

    params(300, 0.01)
    resumed = run(copy, *command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after epoch {done}" in resumed.stderr
    assert len((copy / "models/digits/center/0.csv").read_text().splitlines()) == 301
    assert not list(copy.glob(".ckpt/train-*"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "digit", "hcp", "0"], "data/items/digit/train/hcp.yaml does not exist: choose from digits;"),
        (["train", "digits", "hpc", "0"], "data/items/digits/train/hpc.yaml does not exist: choose from center, hcp, softmax"),
        (["train", "digits", "hcp", "5"], "models/digits/softmax/5.pt does not exist; `dvc repro` makes it"),
        (["show", "hpc"], "unknown method 'hpc', choose from adp, at, at_fgsm"),
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


def test_show_names_the_origin_of_each_value(profile: Path) -> None:
    shown = run(profile, sys.executable, "-m", "stages.show", "hcp").stdout
    assert re.search(r"^      negative: 1.0   # params.yaml:\d+$", shown, flags=re.MULTILINE)
    assert re.search(r"^      proximity: 1.0   # .+/params.yaml:\d+$", shown, flags=re.MULTILINE)
    behind = yaml.safe_load(shown)["datasets"]["digits"]
    training = yaml.safe_load((profile / "params.yaml").read_text())["datasets"]["digits"]["training"]
    assert behind["training"]["epochs"] == {"train": training["epochs"]["train"]}
    assert behind["training"]["optimizers"]["default"]["lr"] == 0.05
    assert behind["networks"]["main"]["name"] == "small_cnn"


def test_bad_params_stop_the_first_stage_with_all_problems(tmp_path: Path) -> None:
    params = small_params()
    params["methods"]["hcp"]["loss"]["e"] = -1
    params["datasets"]["digits"]["evaluation"]["linf"]["eps"] = [-0.1]
    write_params(tmp_path, params)
    done = run(tmp_path, sys.executable, "-m", "stages.items")
    assert done.returncode == 2
    assert "methods.hcp.loss.e" in done.stderr
    assert "datasets.digits.evaluation.linf.eps.0" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def mlflow_runs(folder: Path) -> set[tuple[str, str]]:
    code = (
        "import json; from pipeline.tracking.store import Settings, Store\n"
        "runs = Store(Settings(True, '', 'digits')).runs()\n"
        "print(json.dumps([[r.info.run_name, r.info.run_id] for r in runs]))"
    )
    done = run(folder, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return {(name, run_id) for name, run_id in json.loads(done.stdout.splitlines()[-1])}
