"""MLflow runs as a user finds them in the store, and work that goes on without it."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from mlflow.tracking import MlflowClient

from pipeline import tracking, tracking_writer, ui
from pipeline.tracking import LOG, SPOOL, WRITER_LOCK, flatten, locked, spool, store_uri, track, wake_writer
from pipeline.tracking_writer import metric_name, open_store
from pipeline.ui import comparison_path, write_pending

STAGE = """
import os, signal, sys, time
from pipeline.tracking import track
with track(enabled=True, uri='', experiment='training', name='n', key=sys.argv[1], params={'a': 1}, tags={}) as run:
    run.log({'loss': 1.0}, step=1)
    exec(sys.argv[2])
"""


def options(**changes: Any) -> dict[str, Any]:
    base = {"enabled": True, "uri": "", "experiment": "training", "name": "digits hcp 0", "key": "abc"}
    return {**base, "params": {"method": {"loss": {"e": 0.001}}, "seed": 0}, "tags": {"stage": "train"}, **changes}


def runs(experiment: str = "training") -> list[Any]:
    """Runs in the store, once what is over is there."""
    write_pending()
    client = open_store(store_uri(""))  # under its lock: a writer may be making the tables
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def writers(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[1:] == ["-m", "pipeline.tracking_writer"] and process.cwd() == str(folder):
                found.append(process)
    return found


def stage(folder: Path, key: str = "abc", then: str = "") -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", STAGE, key, then], cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    for process in writers(tmp_path):
        process.kill()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's code, but in the test's process, when a test asks for it."""
    monkeypatch.setattr(tracking, "wake_writer", lambda: None)
    monkeypatch.setattr(ui, "wake_writer", tracking_writer.main)
    monkeypatch.setattr(tracking_writer, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(tracking_writer, "POLL_SECONDS", 0.05)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new sqlite store takes seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    shutil.copy(empty_store, tmp_path / "mlflow" / "mlflow.db")


@pytest.mark.usefixtures("store", "in_process")
def test_a_run_holds_params_curves_tags_and_artifacts(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text("x")
    (tmp_path / "b.png").write_text("y")
    with track(**options()) as run:
        for epoch in (1, 2, 3):
            run.log({"loss": 1 / epoch, "hcp[gap]": 2.0}, step=epoch)
        run.artifact(tmp_path / "tables")
        run.artifact(tmp_path / "b.png")
        (tmp_path / "b.png").write_text("of a later stage")
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
    assert Path(client.download_artifacts(found.info.run_id, "b.png")).read_text() == "y"
    assert (tmp_path / "mlflow" / "mlflow.db").is_file()
    assert list(SPOOL.iterdir()) == []


@pytest.mark.usefixtures("store", "in_process")
def test_the_same_work_again_adds_no_run_and_other_work_does() -> None:
    for key in ("abc", "abc", "def"):
        with track(**options(key=key)) as run:
            run.log({"loss": 1.0})
    assert sorted(run.data.tags["content_key"] for run in runs()) == ["abc", "def"]


@pytest.mark.usefixtures("store", "in_process")
def test_a_run_whose_work_raises_is_marked_failed_and_the_error_passes() -> None:
    with pytest.raises(ZeroDivisionError), track(**options()) as run:  # noqa: PT012
        run.log({"loss": 1.0})
        raise ZeroDivisionError
    (found,) = runs()
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"loss": 1.0}


@pytest.mark.usefixtures("store", "in_process")
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
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what Python takes for not installed
    with track(**options()) as run:
        run.log({"loss": 1.0})
        run.artifact(tmp_path)
    assert capfd.readouterr().err == "MLflow tracking off: mlflow is not installed; the results do not depend on it\n"
    assert not (tmp_path / "mlflow").exists()


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow").write_text("no folder: where root runs the tests, rights keep nobody out")
    with track(**options()) as run:
        run.log({"loss": 1.0})
        run.artifact(tmp_path)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("MLflow tracking stopped (")
    assert line.endswith("the results do not depend on it")


@pytest.mark.usefixtures("store")
def test_a_server_that_is_gone_costs_one_line_and_keeps_the_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(ui, "PENDING_SECONDS", 1.0)
    with track(**options(uri="http://127.0.0.1:9")) as run:  # nothing listens on the discard port
        run.log({"loss": 1.0})
        wait_for(lambda: "MLflow tracking" in LOG.read_text())
    lines = [line for line in capfd.readouterr().err.splitlines() if "MLflow tracking" in line]
    assert len(lines) == 1
    assert "the results do not depend on it" in lines[0]
    assert len(spool()) == 1
    write_pending()  # does not wait for ever
    assert len(spool()) == 1


@pytest.mark.usefixtures("in_process")
def test_a_store_that_comes_back_gets_what_it_has_missed(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file where the store's folder should be")
    uri = f"sqlite:///{tmp_path}/there/mlflow.db"
    with track(**options(uri=uri)) as run:
        run.log({"loss": 1.0}, step=1)
    tracking_writer.main()
    (path,) = spool()
    (tmp_path / "there").unlink()
    (tmp_path / "there").mkdir()
    tracking_writer.main()
    client = MlflowClient(tracking_uri=uri)
    assert [run.info.status for run in client.search_runs([client.get_experiment_by_name("training").experiment_id])] == [
        "FINISHED"
    ]
    assert not path.exists()


@pytest.mark.usefixtures("store", "in_process")
@pytest.mark.parametrize("damage", ["", "{", '{"uri": "x"}\n', None])
def test_a_damaged_spool_file_costs_its_own_run_only(damage: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for loss in (1.0, 2.0):
        with track(**options(key=f"{loss:g}")) as run:
            run.log({"loss": loss}, step=1)
    first = sorted(spool())[0]
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join([lines[0], lines[1][:9] + "\n", *lines[2:]]) if damage is None else damage)  # None: torn in the middle
    tracking_writer.main()
    tracking_writer.main()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    done = client.search_runs([client.get_experiment_by_name("training").experiment_id], "attributes.status = 'FINISHED'")
    assert [run.data.metrics["loss"] for run in done] == [2.0]
    assert spool() == set()
    assert "MLflow tracking" in capfd.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_a_store_that_fails_for_a_week_is_given_up() -> None:
    with track(**options(uri="sqlite:////proc/none/mlflow.db")):
        pass
    tracking_writer.main()
    (path,) = spool()
    os.utime(path, (time.time() - 8 * 86400,) * 2)
    tracking_writer.main()
    assert list(SPOOL.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_a_wrong_uri_is_one_line_and_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with track(**options(uri="foo://bar")):
        pass
    tracking_writer.main()
    assert "unsupported URI 'foo://bar'" in capfd.readouterr().err
    assert spool() == set()


@pytest.mark.usefixtures("store")
def test_a_killed_stage_leaves_a_run_marked_killed(tmp_path: Path) -> None:
    stage(tmp_path, then="os.kill(os.getpid(), signal.SIGKILL)").wait()
    (found,) = runs()
    assert found.info.status == "KILLED"
    assert found.data.metrics == {"loss": 1.0}


@pytest.mark.usefixtures("store")
def test_curves_appear_while_the_stage_runs_and_a_killed_writer_doubles_nothing(tmp_path: Path) -> None:
    process = stage(tmp_path, then="time.sleep(12)\nrun.log({'loss': 2.0}, step=2); os.kill(os.getpid(), 9)")
    wait_for(lambda: (tmp_path / "mlflow" / "mlflow.db").exists() and any(run.data.metrics for run in runs()))
    assert process.poll() is None
    assert runs()[0].info.status == "RUNNING"
    (writer,) = writers(tmp_path)
    writer.kill()
    assert process.communicate(timeout=60)[1] == ""
    (found,) = runs()  # a finished one would replace the other by its content key
    assert found.info.status == "KILLED"
    history = MlflowClient(tracking_uri=store_uri("")).get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
    assert spool() == set()


def test_a_stage_whose_store_is_slow_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    with locked(tmp_path / "mlflow" / "tables.lock", wait=True):  # so that the writer cannot open the store
        begun = time.monotonic()
        with track(**options()) as run:
            run.log({"loss": 1.0})
        assert time.monotonic() - begun < 1.0
    assert len(runs()) == 1


def test_eight_stages_at_once_have_one_writer(tmp_path: Path) -> None:
    processes = [stage(tmp_path, f"key{i}", "time.sleep(6)") for i in range(8)]
    wait_for(lambda: len(spool()) == 8)
    time.sleep(1.0)  # those that came second are gone
    assert len(writers(tmp_path)) == 1
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    assert sorted(run.data.tags["content_key"] for run in runs()) == [f"key{i}" for i in range(8)]
    assert {run.info.status for run in runs()} == {"FINISHED"}


def test_a_stage_between_the_last_look_and_the_release_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    def serve(lock: Any) -> set[Path]:
        served.append(spool())
        if len(served) == 1:  # after the last look, when the lock is still held: the stage finds a writer and starts none
            (SPOOL / "2.jsonl").touch()
            wake_writer()
        return {SPOOL / "1.jsonl"}  # its store fails: not to be tried over and over

    SPOOL.mkdir(parents=True)
    (SPOOL / "1.jsonl").touch()
    monkeypatch.setattr(tracking_writer, "serve", lambda lock: serve(lock) | (spool() if len(served) == 2 else set()))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a second writer"))
    tracking_writer.main()
    assert [len(paths) for paths in served] == [1, 2]


def test_a_second_writer_goes_before_it_loads_mlflow(tmp_path: Path) -> None:
    SPOOL.mkdir(parents=True)
    (SPOOL / "1.jsonl").touch()
    code = "import sys; from pipeline import tracking_writer; tracking_writer.main(); print('mlflow' in sys.modules)"
    with locked(WRITER_LOCK, wait=True):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == "False\n"


def test_two_folders_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    for process in [stage(folder, key=folder.name) for folder in folders]:
        process.communicate(timeout=60)
    for folder in folders:
        monkeypatch.chdir(folder)
        assert [run.data.tags["content_key"] for run in runs()] == [folder.name]
        for process in writers(folder):
            process.kill()


def test_a_store_deleted_under_the_writer_gets_the_next_runs(tmp_path: Path, empty_store: Path) -> None:
    for key in ("before", "after"):
        (tmp_path / "mlflow").mkdir()
        shutil.copy(empty_store, tmp_path / "mlflow" / "mlflow.db")
        with track(**options(key=key)):
            pass
        write_pending()
        with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as store:  # MLflow would show the deleted one again
            assert store.execute("select value from tags where key = 'content_key'").fetchall() == [(key,)]
        shutil.rmtree(tmp_path / "mlflow")


@pytest.mark.usefixtures("store", "in_process")
def test_the_comparison_link_names_the_newest_run_of_each_model() -> None:
    assert comparison_path(store_uri("")) == "/"
    for name, key in (("digits hcp 0", "old"), ("digits hcp 0", "new"), ("digits at 0", "at")):
        with track(**options(experiment="verdict", name=name, key=key)):
            pass
    by_key = {run.data.tags["content_key"]: run.info.run_id for run in runs("verdict")}
    link = comparison_path(store_uri(""))
    assert by_key["new"] in link
    assert by_key["at"] in link
    assert by_key["old"] not in link


def test_names_are_made_fit_for_mlflow() -> None:
    assert metric_name("hcp[gap]") == "hcp.gap"
    assert metric_name("accuracy/bim_0.15") == "accuracy/bim_0.15"
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}
