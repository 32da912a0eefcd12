"""MLflow runs of work that is tracked while it goes on, as a user finds them in the store. Each test has models of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tracked import KILLED, PARAMS, SETTINGS, STAGE, attack, content, in_shared_folder, runs, train  # noqa: F401

from pipeline.tracking.advice import reason
from pipeline.tracking.run import TrackedRun, sync, track
from pipeline.tracking.store import flatten, own_folder, store_uri, valid_name


def test_training_and_results_on_the_model_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("x")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "a.png").write_text("y")
    record = train("one/at/0", "t1")
    with track(
        SETTINGS, model="one/at/0", key="t1b", params={}, tags={"stage": "card"}, record=tmp_path / "r", trained="t1"
    ) as run:
        run.artifact(tmp_path / "curve.csv")
        run.artifact(tmp_path / "cards")
    attack("one/at/0", "a1", "t1")
    (found,) = runs("one/at/0")
    assert found.info.run_name == "one/at/0"
    kept = content(found)
    own = {"method.loss.e": "0.001", "method.loss.layers": "['fc']", "seed": "0", "long": "x" * 6000}
    assert kept["params"] == {**own, "attack.pgd.steps": "10"}
    keys = {"key": "t1", "key.train": "t1", "key.card": "t1b", "key.attack": "a1"}
    assert kept["tags"] == {"model": "one/at/0", "dataset": "digits", **keys}
    assert kept["history"] == {
        "loss": [(1, 1.0), (2, 1 / 2), (3, 1 / 3)],
        "hcp.gap": [(1, 2.0), (2, 2.0), (3, 2.0)],
        "validation_accuracy": [(0, 97.5)],
        "accuracy/pgd_0.1": [(0, 50.0)],
    }
    assert kept["artifacts"] == ["a.png", "curve.csv"]
    assert kept["status"] == "FINISHED"
    assert "images_per_second" in found.data.metrics
    assert Path("mlflow/mlflow.db").is_file()
    assert json.loads(record.read_text()) == {
        "model": "one/at/0",
        "key": "t1",
        "trained": None,
        "params": PARAMS,
        "tags": {"dataset": "digits", "stage": "train"},
        "metrics": {"validation_accuracy": 97.5},
        "curves": [[epoch, {"loss": 1 / epoch, "hcp[gap]": 2.0}] for epoch in (1, 2, 3)],
        "artifacts": [],
    }


def test_the_same_work_again_adds_nothing_and_gives_the_same_record() -> None:
    def work() -> tuple[dict[str, Any], bytes, bytes]:
        files = train("again/at/0", "t2"), attack("again/at/0", "a2", "t2")
        (found,) = runs("again/at/0")
        return content(found), *(file.read_bytes() for file in files)

    assert work() == work()


def test_other_results_on_the_same_model_are_a_run_of_their_own_and_leave_the_earlier_one(tmp_path: Path) -> None:
    files = train("results/at/0", "t3", below=tmp_path), attack("results/at/0", "a3", "t3", accuracy=50.0, below=tmp_path)
    before = content(runs("results/at/0")[0])
    for _ in range(2):
        attack("results/at/0", "b3", "t3", accuracy=40.0, steps=20)
    new, old = runs("results/at/0")
    assert content(new) == {
        **before,
        "params": {**before["params"], "attack.pgd.steps": "20"},
        "tags": {**before["tags"], "key.attack": "b3"},
        "history": {**before["history"], "accuracy/pgd_0.1": [(0, 40.0)]},
    }
    assert (new.info.run_name, new.inputs, new.outputs) == (old.info.run_name, old.inputs, old.outputs)
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert content(old) == {**before, "tags": {**before["tags"], "superseded_by": new.info.run_id}}
    assert [file.is_file() for file in files] == [True, True]
    assert sync(SETTINGS, tmp_path) == 0  # both are there


def test_other_results_that_were_killed_go_on_in_their_run() -> None:
    train("again/pgd/0", "t23")
    attack("again/pgd/0", "a23", "t23")
    about: dict[str, Any] = {"model": "again/pgd/0", "key": "b23", "params": PARAMS, "tags": {"stage": "attack"}, "trained": "t23"}
    with pytest.raises(KeyboardInterrupt), track(SETTINGS, **about, record=Path("unwritten")) as run:  # noqa: PT012
        run.log({"accuracy/clean": 90.0})
        raise KeyboardInterrupt
    assert [found.info.status for found in runs("again/pgd/0")] == ["KILLED", "FINISHED"]
    assert "superseded_by" not in runs("again/pgd/0")[1].data.tags
    attack("again/pgd/0", "b23", "t23")
    new, old = runs("again/pgd/0")
    assert (new.info.status, new.data.tags["key.attack"], old.data.tags["superseded_by"]) == ("FINISHED", "b23", new.info.run_id)
    assert {"loss", "accuracy/clean", "accuracy/pgd_0.1"} <= set(new.data.metrics)


def test_another_training_marks_the_earlier_one_and_leaves_it() -> None:
    train("better/at/0", "old")
    before = content(runs("better/at/0")[0])
    train("better/at/0", "new")
    new, old = runs("better/at/0")
    assert (old.data.tags["key"], new.data.tags["key"]) == ("old", "new")
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert "superseded_by" not in new.data.tags
    after = content(old)
    del after["tags"]["superseded_by"]
    assert after == before


def test_the_run_of_an_experiment_has_its_name_and_stands_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    train("grid/at/0", "t24")
    monkeypatch.setenv("DVC_EXP_NAME", "sport-lore")
    train("grid/at/0", "t24-half")
    monkeypatch.delenv("DVC_EXP_NAME")
    train("grid/at/0", "t24-new")
    new, experiment, old = runs("grid/at/0")
    assert [run.data.tags.get("experiment") for run in (new, experiment, old)] == [None, "sport-lore", None]
    assert [run.data.tags.get("superseded_by") for run in (new, experiment, old)] == [None, None, new.info.run_id]


def test_a_queued_experiment_is_recorded_in_the_repository_that_it_is_a_copy_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, copy, another = (tmp_path / name for name in ("mine", "mine/.dvc/tmp/exps/tmp1", "another"))
    for top in (repository, copy, another):
        (top / "profiles/mnist").mkdir(parents=True)
        (top / ".dvc").mkdir(exist_ok=True)
    for folder, root, expected in (
        (copy, repository, repository / "mlflow"),
        (copy / "profiles/mnist", repository, repository / "profiles/mnist/mlflow"),
        (repository / "profiles/mnist", repository, repository / "profiles/mnist/mlflow"),
        (another, repository, another / "mlflow"),
    ):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(root))
        assert own_folder() == expected
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.chdir(copy)
    assert own_folder() == copy / "mlflow"


def test_a_killed_training_goes_on_in_its_run() -> None:
    killed = subprocess.run([sys.executable, "-c", STAGE, "killed/at/0", KILLED], stderr=subprocess.PIPE, text=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert runs("killed/at/0")[0].info.status == "RUNNING"
    assert not Path("killed/at/0").exists()
    train("killed/at/0", "killed/at/0", epochs=4)
    (found,) = runs("killed/at/0")
    assert content(found)["history"]["loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 1 / 4)]
    assert found.info.status == "FINISHED"
    assert found.data.params["seed"] == "0"


def test_work_that_raises_is_marked_failed_and_goes_on_later(tmp_path: Path) -> None:
    about: dict[str, Any] = {"model": "raises/at/0", "key": "t4", "params": PARAMS, "tags": {"dataset": "digits", "stage": "train"}}
    with pytest.raises(ZeroDivisionError), track(SETTINGS, **about, record=tmp_path / "r.json") as run:  # noqa: PT012
        run.log({"loss": 1.0}, step=1)
        raise ZeroDivisionError
    (found,) = runs("raises/at/0")
    assert (found.info.status, found.data.metrics) == ("FAILED", {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
    train("raises/at/0", "t4")
    (found,) = runs("raises/at/0")
    assert content(found)["history"]["loss"] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert found.info.status == "FINISHED"


def test_results_on_a_model_whose_training_is_not_in_the_store_make_its_run() -> None:
    attack("later/at/0", "a5", "t5")
    (found,) = runs("later/at/0")
    assert (found.data.tags["key"], found.data.params, found.info.status) == ("t5", {"attack.pgd.steps": "10"}, "FINISHED")
    train("later/at/0", "t5")
    (found,) = runs("later/at/0")
    assert set(found.data.metrics) == {"accuracy/pgd_0.1", "loss", "hcp.gap", "validation_accuracy", "images_per_second"}
    assert {name: found.data.params[name] for name in ("attack.pgd.steps", "seed")} == {"attack.pgd.steps": "10", "seed": "0"}


def test_the_commit_and_the_script_are_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(""))
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    train("commit/at/0", "t6")
    tags = runs("commit/at/0")[0].data.tags
    assert (tags["mlflow.source.git.commit"], tags["git_dirty"]) == (git("rev-parse", "HEAD"), "false")
    assert tags["mlflow.source.name"] == Path(sys.argv[0]).name


def test_switched_off_only_the_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked = train("off/at/0", "t7", below=tmp_path / "tracked").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert train("off/at/0", "t7", settings=SETTINGS._replace(enabled=False)).read_bytes() == tracked
    assert not Path("mlflow").exists()


def test_of_several_ranks_the_first_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # which torchrun sets
    assert not train("rank/at/0", "t8", below=tmp_path).exists()
    assert runs("rank/at/0") == []


def test_names_are_made_fit_for_mlflow() -> None:
    assert valid_name("hcp[gap]") == "hcp.gap"
    assert valid_name("accuracy/bim_0.15") == "accuracy/bim_0.15"
    assert valid_name("/a//../b: c") == "a/b..c"
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}
    assert reason(OSError("http://a:b@host refused\nmore")) == "OSError: http://host refused more"
    assert TrackedRun({}).content() == {"metrics": {}, "curves": [], "artifacts": []}
