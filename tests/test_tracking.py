"""MLflow runs as a user finds them in the store, and work that goes on without it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from mlflow.tracking import MlflowClient

from pipeline.tracking import flatten, track
from pipeline.tracking_writer import metric_name, open_store, store_uri
from pipeline.ui import comparison_path


def options(**changes: Any) -> dict[str, Any]:
    base = {"enabled": True, "uri": "", "experiment": "training", "name": "digits hcp 0", "key": "abc"}
    return {**base, "params": {"method": {"loss": {"e": 0.001}}, "seed": 0}, "tags": {"stage": "train"}, **changes}


def runs(experiment: str = "training") -> list[Any]:
    client = open_store(store_uri(""))  # under its lock: a writer may be making the tables
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_run_holds_params_curves_tags_and_artifacts(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text("x")
    (tmp_path / "b.png").write_text("y")
    with track(**options()) as run:
        for epoch in (1, 2, 3):
            run.log({"loss": 1 / epoch, "hcp[gap]": 2.0}, step=epoch)
        run.artifact(tmp_path / "tables")
        run.artifact(tmp_path / "b.png")
    (found,) = runs()
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "digits hcp 0"
    assert found.data.params == {"method.loss.e": "0.001", "seed": "0"}
    assert found.data.metrics == {"loss": 1 / 3, "hcp.gap": 2.0}
    assert found.data.tags["stage"] == "train"
    assert found.data.tags["content_key"] == "abc"
    client = MlflowClient(tracking_uri=store_uri(""))
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"a.csv", "b.png"}
    assert (tmp_path / "mlflow" / "mlflow.db").is_file()


def test_the_same_work_again_adds_no_run_and_other_work_does() -> None:
    for key in ("abc", "abc", "def"):
        with track(**options(key=key)) as run:
            run.log({"loss": 1.0})
    assert sorted(run.data.tags["content_key"] for run in runs()) == ["abc", "def"]


def test_a_run_whose_work_raises_is_marked_failed_and_the_error_passes() -> None:
    with pytest.raises(ZeroDivisionError), track(**options()) as run:  # noqa: PT012
        run.log({"loss": 1.0})
        raise ZeroDivisionError
    (found,) = runs()
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"loss": 1.0}


def test_the_commit_is_a_tag_in_a_git_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    with track(**options()):
        pass
    assert runs()[0].data.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert runs()[0].data.tags["git_dirty"] == "false"


def test_switched_off_it_leaves_nothing(tmp_path: Path) -> None:
    with track(**options(enabled=False)) as run:
        run.log({"loss": 1.0})
        run.artifact(tmp_path)
    assert not (tmp_path / "mlflow").exists()


def test_without_mlflow_work_goes_on_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "without" / "mlflow").mkdir(parents=True)
    (tmp_path / "without" / "mlflow" / "__init__.py").write_text("raise ImportError")  # what import finds where it is not installed
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'without'}{os.pathsep}{ROOT}")
    with track(**options()) as run:
        run.log({"loss": 1.0})
    assert capfd.readouterr().err == "MLflow tracking off: mlflow is not installed; the results do not depend on it\n"


def test_a_server_that_is_gone_costs_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with track(**options(uri="http://127.0.0.1:9")) as run:  # nothing listens on the discard port
        run.log({"loss": 1.0})
    lines = [line for line in capfd.readouterr().err.splitlines() if "MLflow tracking" in line]
    assert len(lines) == 1
    assert "the results do not depend on it" in lines[0]


def test_a_killed_process_leaves_a_run_marked_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\nfrom pipeline.tracking import track\n"
        "with track(enabled=True, uri='', experiment='training', name='n', key='abc', params={}, tags={}) as run:\n"
        "    run.log({'loss': 1.0})\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    deadline = time.monotonic() + 60
    while not (found := runs()) or found[0].info.status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found[0].info.status == "KILLED"
    assert found[0].data.metrics == {"loss": 1.0}


def test_four_processes_can_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipeline.tracking import track\n"
        "with track(enabled=True, uri='', experiment='training', name='n', key=sys.argv[1], params={}, tags={}) as run:\n"
        "    run.log({'loss': 1.0})\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, f"key{i}"], cwd=tmp_path, stderr=subprocess.PIPE) for i in range(4)]
    for process in processes:
        assert b"MLflow tracking" not in process.communicate(timeout=120)[1]
    assert sorted(run.data.tags["content_key"] for run in runs()) == [f"key{i}" for i in range(4)]


def test_the_comparison_link_names_the_newest_run_of_each_model() -> None:
    assert comparison_path(store_uri("")) == "/"
    for name, key in (("digits hcp 0", "old"), ("digits hcp 0", "new"), ("digits at 0", "at")):
        with track(**options(experiment="robustness", name=name, key=key)):
            pass
    by_key = {run.data.tags["content_key"]: run.info.run_id for run in runs("robustness")}
    link = comparison_path(store_uri(""))
    assert by_key["new"] in link
    assert by_key["at"] in link
    assert by_key["old"] not in link


def test_names_are_made_fit_for_mlflow() -> None:
    assert metric_name("hcp[gap]") == "hcp.gap"
    assert metric_name("accuracy/bim_0.15") == "accuracy/bim_0.15"
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}
