"""Several processes, a tracking server, the UI."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tracked import SETTINGS, STAGE, client, content, in_shared_folder, runs, train  # noqa: F401

from pipeline.tracking import ui
from pipeline.tracking.results import sync_all
from pipeline.tracking.run import track
from pipeline.tracking.store import Store, store_uri
from pipeline.tracking.view import TAG, page, view


def test_four_processes_at_a_new_store(tmp_path: Path) -> None:
    stages = [
        subprocess.Popen([sys.executable, "-c", STAGE, f"{i}", ""], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    assert [stage.communicate(timeout=120)[1] for stage in stages] == [""] * 4
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert [[run.data.metrics for run in runs(f"{i}", uri)] for i in range(4)] == [[{"loss": 0.5}]] * 4


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(url: str, server: "subprocess.Popen[str]", seconds: float = 90.0) -> str:
    deadline = time.monotonic() + seconds
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        try:
            with urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A tracking server with a database and an artifact store of its own."""
    Store(SETTINGS)
    shutil.copy("mlflow/mlflow.db", tmp_path / "server.db")
    with closing(sqlite3.connect(tmp_path / "server.db")) as database:
        database.execute("update experiments set name = 'shared ' || experiment_id")
        database.commit()
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"]
    places = ["--artifacts-destination", str(tmp_path / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen([*command, *places], env=environment, cwd=tmp_path, start_new_session=True, text=True)
    wait_for(f"http://127.0.0.1:{port}/health", process)
    yield f"http://127.0.0.1:{port}", process
    os.killpg(process.pid, signal.SIGKILL)


def test_a_tracking_server_gets_the_same_run(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    uri, process = server
    settings = SETTINGS._replace(uri=uri)
    monkeypatch.chdir(tmp_path)
    for name in ("data/digits.npz", "models/server/at/0.pt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    capfd.readouterr()
    live = train("server/at/0", "t19", settings=settings)
    (found,) = runs("server/at/0", uri)
    assert found.inputs.dataset_inputs[0].dataset.digest == hashlib.md5(b"x").hexdigest()[:8]
    (model,) = found.outputs.model_outputs
    assert client(uri).get_logged_model(model.model_id).tags["file"] == "models/server/at/0.pt"
    expected = content(found, uri)
    assert expected["history"]["loss"] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    Path("models/0.csv").write_text("x")
    record = {**json.loads(live.read_text()), "key": "t20", "model": "server/at/1", "artifacts": ["models/0.csv"]}
    Path("models/other.json").write_text(json.dumps(record))
    assert sync_all(settings, Path()) == 1
    assert TAG in client(uri).get_experiment(found.info.experiment_id).tags
    (other,) = runs("server/at/1", uri)
    kept = content(other, uri)
    assert (kept["params"], kept["history"], kept["artifacts"]) == (expected["params"], expected["history"], ["0.csv"])
    assert (tmp_path / "artifacts").is_dir()
    assert capfd.readouterr().err == ""
    with track(settings, model="server/at/2", key="t21", params={}, tags={}, record=Path("models/2.json")) as run:
        run.log({"loss": 1.0}, step=1)
        assert run.writer is not None
        run.writer.submit(int).result()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        run.log({"loss": 0.5}, step=2)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("MLflow tracking stopped (")


def test_the_ui_records_what_is_missing_and_opens_the_view_of_models(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"tracking: {{enabled: true, uri: '{store_uri('')}', experiment: ui}}\n")
    settings = SETTINGS._replace(experiment="ui")
    train("ui/hcp/0", "old", settings=settings)
    store = Store(settings)
    train("ui/hcp/0", "new", settings=settings)
    train("ui/at/0", "at", below=tmp_path, settings=settings._replace(enabled=False))  # the ui records it
    port = free_port()
    command = [sys.executable, "-m", "stages.ui", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = next(line for line in process.stdout if "http" in line)
        assert {run.data.tags["key"] for run in store.runs()} == {"old", "new", "at"}
        assert link.strip() == f"http://127.0.0.1:{port}{page(store.experiment_id, charts=True)}"
        assert json.loads(store.client.get_experiment(store.experiment_id).tags[TAG]) == view()
        assert "<html" in wait_for(f"http://127.0.0.1:{port}/", process)
        again = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
        assert again.returncode == 2
        assert again.stderr.startswith(f"error: port {port} cannot be used ([Errno 98] Address already in use); choose another ")
        assert len(again.stderr.splitlines()) == 1
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_server_elsewhere_has_a_ui_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    opened: list[str] = []
    uri = store_uri("")
    monkeypatch.setattr(ui, "store_uri", lambda _: "http://server:5000/")
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    monkeypatch.chdir(tmp_path)
    assert ui.serve(SETTINGS._replace(uri=uri, experiment="elsewhere"), 1) == 0
    assert opened[0].startswith("http://server:5000/#/experiments/")
    assert opened[0] in capsys.readouterr().out
