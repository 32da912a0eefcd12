"""The process that writes MLflow runs: python -m pipeline.tracking_writer, started by stages (see tracking.py), one for a folder.
It serves all spool files at once and goes when there have been none for a while. It may be killed: a spool file is deleted when its
run is in the store, and what an earlier writer has left half done there is begun anew."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import IO, Any

from pipeline.tracking import STORE, WRITER_LOCK, locked, say, spool, stage_lives

POLL_SECONDS = 1.0
IDLE_SECONDS = 20.0
KEEP_SECONDS = 7 * 24 * 3600.0  # for so long a run waits for a store that fails

Message = dict[str, Any]


def main() -> None:
    """Serves the spool, unless another process does. A stage that found the lock still taken, but came after that process's last
    look, is not lost: there is one more look after the release."""
    left: set[Path] = set()
    while spool() - left:
        with locked(WRITER_LOCK, wait=False) as lock:
            if lock is None:
                return
            left = serve(lock)


def serve(lock: IO[str]) -> set[Path]:
    """Writes runs until there has been nothing to do for a while. Returns spool files left for another time: their store fails."""
    runs: dict[Path, SpooledRun] = {}
    stores: dict[str, Any] = {}  # an MlflowClient for each URI, None for a store that fails
    busy = time.monotonic()
    while time.monotonic() - busy < IDLE_SECONDS:
        if _same_file(lock, WRITER_LOCK):  # else mlflow/ was deleted, and what is there now has a writer of its own
            runs |= {path: run for path in spool() - set(runs) if (run := take_up(path))}
        for path, run in sorted(runs.items()):  # the oldest first
            try:
                if run.uri not in stores:
                    stores[run.uri] = open_store(run.uri)
                if stores[run.uri] is None:
                    continue
                over = run.write(stores[run.uri])
            except Exception as error:  # no store, no rights, no server, a store of another version, a value that it does not take
                say(f"stopped ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})")
                damaged = isinstance(error, json.JSONDecodeError | KeyError)
                over = damaged or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE" or run.expired()
                if not over:
                    stores[run.uri] = None
            busy = time.monotonic()
            if over:
                run.delete()
                del runs[path]
        time.sleep(POLL_SECONDS)
    return set(runs)


def take_up(path: Path) -> "SpooledRun | None":
    """None for a file that says no run, such as one that a full disk has cut short: it is deleted, lest every writer meets it."""
    try:
        return SpooledRun(path)
    except (OSError, ValueError, KeyError) as error:
        say(f"lost a run ({path.name}: {type(error).__name__})")
        path.unlink(missing_ok=True)
        return None


class SpooledRun:
    """A spool file, and the MLflow run that it becomes."""

    def __init__(self, path: Path) -> None:
        self.path, self.artifacts, self.file = path, path.with_suffix(""), path.open("rb")
        self.start: Message = json.loads(self.file.readline())
        self.uri: str = self.start["uri"]
        self.run_id, self.tail = "", b""

    def write(self, client: Any) -> bool:
        """Writes what is new. True when that was the end: a status, or a process that is gone without one."""
        status = "" if stage_lives(self.file) else "KILLED"  # before the read: nothing comes after it then
        *lines, self.tail = (self.tail + self.file.read()).split(b"\n")
        messages: list[Message] = [json.loads(line) for line in lines]
        self.run_id = self.run_id or _new_run(client, self.start, self.path.stem)
        _write_points(client, self.run_id, messages)
        status = next((message["status"] for message in messages if "status" in message), status)
        if status and self.artifacts.is_dir():
            client.log_artifacts(self.run_id, str(self.artifacts))
        if status:
            client.set_terminated(self.run_id, status, end_time=(messages or [{}])[-1].get("timestamp"))
        if status == "FINISHED":
            _delete_others(client, self.run_id, self.start["key"])
        return bool(status)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.file.close()

    def expired(self) -> bool:
        return not self.path.exists() or time.time() - self.path.stat().st_mtime > KEEP_SECONDS


def open_store(uri: str) -> Any:
    """An MlflowClient. A new sqlite store is made under a lock: two processes at it at once would break each other's tables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a server that is gone must not hold other runs up for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow.tracking import MlflowClient  # here, because it takes more than a second

    if not uri.startswith("sqlite:"):
        return MlflowClient(tracking_uri=uri)
    STORE.mkdir(exist_ok=True)
    with locked(STORE / "tables.lock", wait=True):
        return MlflowClient(tracking_uri=uri)  # makes the tables


def metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ only: hcp[gap] -> hcp.gap."""
    return "".join(c if c.isalnum() or c in "_-./" else "." for c in name).strip(".")


def _same_file(file: IO[str], path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _new_run(client: Any, start: Message, spooled: str) -> str:
    from mlflow.entities import Param

    experiment_id = _experiment(client, start)
    for begun in client.search_runs([experiment_id], f"tags.spooled = '{spooled}'"):  # by a writer that was killed
        client.delete_run(begun.info.run_id)
    tags = {**start["tags"], "content_key": start["key"], "spooled": spooled}
    run = client.create_run(experiment_id, start_time=start["timestamp"], run_name=start["name"], tags=tags)
    client.log_batch(run.info.run_id, params=[Param(path, str(value)) for path, value in start["params"].items()])
    return str(run.info.run_id)


def _experiment(client: Any, start: Message) -> str:
    name = start["experiment"]
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    artifacts = f"{STORE.resolve().as_uri()}/artifacts/{name}" if start["uri"].startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=artifacts))


def _write_points(client: Any, run_id: str, messages: list[Message]) -> None:
    from mlflow.entities import Metric

    points = [
        Metric(metric_name(name), float(value), message["timestamp"], message["step"])
        for message in messages
        for name, value in message.get("metrics", {}).items()
    ]
    for start in range(0, len(points), 1000):  # what one call takes
        client.log_batch(run_id, metrics=points[start : start + 1000])


def _delete_others(client: Any, run_id: str, key: str) -> None:
    """Earlier runs of the same work: now that it is done, one is enough."""
    experiment_id = client.get_run(run_id).info.experiment_id
    for other in client.search_runs([experiment_id], f"tags.content_key = '{key}'"):
        if other.info.run_id != run_id:
            client.delete_run(other.info.run_id)


if __name__ == "__main__":
    main()
