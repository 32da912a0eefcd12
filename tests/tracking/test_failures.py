"""Work goes on when the store fails, and says so in one line."""

import json
import re
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tracked import LATER, SETTINGS, client, in_shared_folder, runs, train  # noqa: F401

from pipeline.tracking import store as store_module
from pipeline.tracking.run import sync
from pipeline.tracking.store import Settings, Store


def deleted_experiment(path: Path) -> str:
    store = Store(SETTINGS._replace(experiment="deleted"))
    store.client.delete_experiment(store.experiment_id)
    return ""


def old_schema(path: Path) -> str:
    shutil.copy("mlflow/mlflow.db", path / "old.db")
    with closing(sqlite3.connect(path / "old.db")) as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.commit()
    return f"sqlite:///{path}/old.db"


def no_database(path: Path) -> str:
    (path / "text.db").write_text("no database" * 100)
    return f"sqlite:///{path}/text.db"


def no_folder(path: Path) -> str:
    (path / "file").write_text("rights keep nobody out where root runs the tests")
    return f"sqlite:///{path}/file/mlflow.db"


FAILURES: dict[str, Callable[[Path], str]] = {
    "no such scheme": lambda path: "foo://bar",
    "file store": lambda path: path.as_uri(),
    "deleted experiment": deleted_experiment,
    "old schema": old_schema,
    "no database": no_database,
    "no folder": no_folder,
    "no server": lambda path: "http://user:secret@127.0.0.1:9",  # nothing listens on the discard port
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_store_that_fails_costs_one_line(failure: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expected = train("fails/at/0", "t9", below=tmp_path / "tracked").read_bytes()
    settings = Settings(enabled=True, uri=FAILURES[failure](tmp_path), experiment="deleted")
    capfd.readouterr()
    assert train("fails/at/0", "t9", below=tmp_path, settings=settings).read_bytes() == expected
    assert re.fullmatch(r"MLflow tracking stopped \(\w+: .+\)" + re.escape(LATER), (said := capfd.readouterr()).err)
    assert "secret" not in said.err
    assert said.out == ""
    if failure != "deleted experiment":  # the others fail when they are opened
        with pytest.raises(ValueError, match="the MLflow store fails"):
            sync(settings, tmp_path)


@pytest.mark.slow  # MLflow waits 20 s for the lock
def test_a_locked_database_costs_one_line_and_sync_makes_up_for_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Store(SETTINGS)
    capfd.readouterr()
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database:
        database.execute("begin immediate")
        train("locked/at/0", "t10", below=tmp_path)
    (line,) = capfd.readouterr().err.splitlines()
    assert "database is locked" in line
    assert sync(SETTINGS, tmp_path) == 1
    assert len(runs("locked/at/0")) == 1


def test_a_server_that_does_not_answer_costs_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        train("silent/at/0", "t11", below=tmp_path, settings=SETTINGS._replace(uri=uri))
        assert time.monotonic() - start < 10
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow").write_text("no folder")
    assert train("folder/at/0", "t12").is_file()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_failure_on_the_way_ends_tracking_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    steps = []

    def log(stored: Any, points: list[tuple[int, Any]]) -> None:
        steps.append(points[0][0])
        if points[0][0] == 2:
            raise OSError("disk full")

    monkeypatch.setattr(store_module.StoredRun, "log", log)
    assert len(json.loads(train("halfway/at/0", "t13", below=tmp_path).read_text())["curves"]) == 3
    assert steps == [1, 1, 2]
    assert capfd.readouterr().err == "MLflow tracking stopped (OSError: disk full)" + LATER
    monkeypatch.undo()


def test_without_mlflow_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    for name in [name for name in sys.modules if name.startswith("mlflow")]:
        monkeypatch.setitem(sys.modules, name, None)  # what Python takes for not installed
    assert train("none/at/0", "t14", below=tmp_path).is_file()
    assert capfd.readouterr().err == "MLflow tracking off: mlflow is not installed" + LATER
