"""A store that fails says in its one line what to do, and what it missed can be recorded later."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from test_failures import FAILURES
from tracked import LATER, SETTINGS, client, in_shared_folder, train  # noqa: F401

from pipeline.tracking import ui
from pipeline.tracking.advice import reason
from pipeline.tracking.run import open_store, sync
from pipeline.tracking.store import Settings, Store, own_uri


def with_schema(path: Path, version: str) -> str:
    Store(SETTINGS)
    shutil.copy("mlflow/mlflow.db", path / f"{version}.db")
    with closing(sqlite3.connect(path / f"{version}.db")) as database:
        database.execute(f"update alembic_version set version_num = '{version}'")
        database.commit()
    return f"sqlite:///{path}/{version}.db"


def deleted(path: Path) -> str:
    store = Store(SETTINGS._replace(experiment="deleted too"))
    store.client.delete_experiment(store.experiment_id)
    return ""


RESTORE = "MLFLOW_TRACKING_URI=sqlite:///mlflow/mlflow.db mlflow experiments restore -x ID"
ADVICE = {
    "file store": "unset MLFLOW_TRACKING_URI, or set tracking.uri to sqlite:///FILE; `python -m stages.sync` then records all runs",
    "deleted experiment": f"`{RESTORE}` brings it back",
    "old schema": "it was made by an earlier MLflow: copy the file, then `mlflow db upgrade` with its sqlite:///FILE",
    "no database": "the file is damaged or none of MLflow's: move it away",
    "no folder": "its folder must be there and may be written to",
    "no server": "is the server of tracking.uri up, and the address right?",
}


MADE = {**FAILURES, "deleted experiment": deleted}


@pytest.mark.parametrize("failure", ADVICE)
def test_what_to_do_stands_in_the_line(failure: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Store(SETTINGS)
    settings = Settings(enabled=True, uri=MADE[failure](tmp_path), experiment="deleted too")
    capfd.readouterr()
    train("advice/at/0", "v1", below=tmp_path, settings=settings)
    (line,) = capfd.readouterr().err.splitlines()
    assert ADVICE[failure] in line
    assert f"{line}\n".endswith(LATER)
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    shutil.copy("mlflow/mlflow.db", tmp_path / "elsewhere.db")
    assert sync(Settings(enabled=True, uri=elsewhere, experiment="digits"), tmp_path) == 1


def test_a_deleted_experiment_comes_back_as_advised() -> None:
    store = Store(SETTINGS._replace(experiment="deleted three"))
    store.client.delete_experiment(store.experiment_id)
    assignment, *command = RESTORE.replace("ID", store.experiment_id).split()
    program = Path(sys.executable).with_name(command[0])
    environment = {**os.environ, **dict([assignment.split("=", 1)])}
    subprocess.run([program, *command[1:]], env=environment, check=True, capture_output=True)
    assert store.client.get_experiment(store.experiment_id).lifecycle_stage == "active"


def test_an_old_schema_a_newer_one_and_a_broken_file_are_told_apart(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    old, newer = with_schema(tmp_path, "451aebb31d03"), with_schema(tmp_path, "ffffffffffff")
    shutil.copy("mlflow/mlflow.db", broken)
    with closing(sqlite3.connect(broken)) as database:
        database.execute("drop table runs")
        database.commit()
    for uri, said in ((old, "made by an earlier MLflow"), (newer, "made by a later MLflow"), (f"sqlite:///{broken}", "is damaged")):
        with pytest.raises(ValueError, match=said) as error:
            ui.serve(SETTINGS._replace(uri=uri), 0)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_that_was_moved_is_named_and_its_runs_recorded_anew(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    shutil.copytree("mlflow", before / "mlflow")
    shutil.rmtree(before / "mlflow/artifacts", ignore_errors=True)
    with closing(sqlite3.connect(before / "mlflow/mlflow.db")) as database:
        database.execute(
            f"update experiments set artifact_location = 'file://{before}/mlflow/artifacts/digits' where name = 'digits'"
        )
        database.commit()
    monkeypatch.chdir(before)
    train("moved/at/0", "v2")
    if how == "moved":
        before.rename(after)
    else:
        shutil.copytree(before, after)
    monkeypatch.chdir(after)
    capfd.readouterr()
    train("moved/at/1", "v3")
    (line,) = capfd.readouterr().err.splitlines()
    assert f"the store's files are recorded in file://{before}/mlflow/artifacts/digits, as this folder was moved or copied" in line
    assert "`mv mlflow mlflow.old`, then `python -m stages.sync` records all runs anew" in line
    assert before.exists() == (how == "copied")
    (after / "mlflow").rename(after / "mlflow.old")
    (after / "mlflow").mkdir()
    shutil.copy(after / "mlflow.old/mlflow.db", after / "empty.db")  # to make a new one takes seconds
    assert sync(SETTINGS._replace(uri=f"sqlite:///{after}/empty.db", experiment="anew"), after) == 2


@pytest.mark.parametrize("name", ["a b", "a#b", "a?b", "a%20b", "a%b", "a;b", "ä"])
def test_a_path_of_any_characters_holds_a_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    (place / "mlflow").mkdir(parents=True)
    shutil.copy("mlflow/mlflow.db", place / "mlflow/mlflow.db")  # to make a new one takes seconds
    (place / "out.csv").write_text("x")
    monkeypatch.chdir(place)
    settings = SETTINGS._replace(experiment="../a b%20?")
    store = Store(settings)
    run = store.client.create_run(store.experiment_id)
    store.client.log_artifact(run.info.run_id, "out.csv")
    assert [path.name for path in (place / "mlflow/artifacts").rglob("out.csv")] == ["out.csv"]
    assert not (place / "mlflow/a b%20?").exists()
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database:
        assert database.execute("select count(*) from experiments where name = '../a b%20?'").fetchone() == (1,)
    assert open_store(settings).experiment_id == store.experiment_id


def test_the_store_of_a_plain_path_has_it_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert own_uri() == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_a_message_without_advice_stays_as_it_is() -> None:
    assert reason(OSError("disk full")) == "OSError: disk full"
    assert re.fullmatch(r"ValueError: x{300}", reason(ValueError("x" * 1000)))
    locked = OSError("(sqlite3.OperationalError) database is locked " + "x" * 1000)
    assert reason(locked).endswith("; another process writes to it; wait for that one")
    assert len(reason(locked)) < 250
