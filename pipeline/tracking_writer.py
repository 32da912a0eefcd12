"""The process that writes one MLflow run: python -m pipeline.tracking_writer, with lines of JSON on stdin (see tracking.py).

The first line says which run; then metrics and artifacts; a last one with the status. Where that never comes, the work was killed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

FLUSH_SECONDS = 5.0  # metrics are written together now and then
STORE = "mlflow"  # folder of the local store, below the current one


def main(lines: Iterable[str]) -> None:
    """Whatever goes wrong with MLflow is one line on stderr; the work goes on."""
    messages = map(json.loads, lines)
    start = next(messages, None)
    if start is None:
        return
    try:
        _write_run(start, messages)
    except ImportError:
        _say("off: mlflow is not installed")
    except Exception as error:  # no store, no rights, no server, a store of another version
        _say(f"stopped ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})")


def store_uri(uri: str) -> str:
    """An absolute tracking URI."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(STORE).resolve()}/mlflow.db"


def open_store(uri: str) -> Any:
    """An MlflowClient. A new sqlite store is made under a lock: two processes at it at once would break each other's tables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a server that is gone must not hold a stage up for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow.tracking import MlflowClient  # here, because it takes more than a second

    if not uri.startswith("sqlite:"):
        return MlflowClient(tracking_uri=uri)
    with _store_lock():
        try:
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)  # makes the tables
        except Exception:  # somebody who does not know the lock, such as a UI, was making them: give them time
            time.sleep(5)
        return MlflowClient(tracking_uri=uri)


def metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ only: hcp[gap] -> hcp.gap."""
    return "".join(c if c.isalnum() or c in "_-./" else "." for c in name).strip(".")


def _write_run(start: dict[str, Any], messages: Iterable[dict[str, Any]]) -> None:
    uri = store_uri(start["uri"])
    client = open_store(uri)
    run_id = _new_run(client, uri, start)
    points: list[tuple[str, float, int, int]] = []
    flushed, status = time.monotonic(), "KILLED"
    for message in messages:
        status = message.get("status", status)
        for name, value in message.get("metrics", {}).items():
            points.append((metric_name(name), float(value), message["timestamp"], message["step"]))
        if "artifact" in message:
            _log_artifact(client, run_id, Path(message["artifact"]))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            _write_points(client, run_id, points)
            points, flushed = [], time.monotonic()
    _write_points(client, run_id, points)
    client.set_terminated(run_id, status)
    if status == "FINISHED":
        _delete_others(client, run_id, start["key"])


def _delete_others(client: Any, run_id: str, key: str) -> None:
    """Earlier runs of the same work: now that it is done, one is enough."""
    experiment_id = client.get_run(run_id).info.experiment_id
    for other in client.search_runs([experiment_id], f"tags.content_key = '{key}'"):
        if other.info.run_id != run_id:
            client.delete_run(other.info.run_id)


def _new_run(client: Any, uri: str, start: dict[str, Any]) -> str:
    from mlflow.entities import Param

    experiment_id = _experiment(client, uri, start["experiment"])
    tags = {**start["tags"], **_git_tags(), "content_key": start["key"]}
    run = client.create_run(experiment_id, run_name=start["name"], tags=tags)
    client.log_batch(run.info.run_id, params=[Param(path, str(value)) for path, value in start["params"].items()])
    return str(run.info.run_id)


def _experiment(client: Any, uri: str, name: str) -> str:
    with _store_lock():  # found or made by one process at a time
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        artifacts = f"{Path(STORE).resolve().as_uri()}/artifacts/{name}" if uri.startswith("sqlite:") else None
        return str(client.create_experiment(name, artifact_location=artifacts))


def _store_lock() -> FileLock:
    folder = Path(STORE).resolve()
    folder.mkdir(exist_ok=True)
    return FileLock(folder / ".lock", timeout=60)


def _log_artifact(client: Any, run_id: str, path: Path) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path))
    else:
        client.log_artifact(run_id, str(path))


def _write_points(client: Any, run_id: str, points: list[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(points), 1000):  # what one call takes
        client.log_batch(run_id, metrics=[Metric(*point) for point in points[start : start + 1000]])


def _git_tags() -> dict[str, str]:
    """The commit that the code is at, and whether the working tree differs from it. Nothing outside a git checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", ":/*.py", ":/*params.yaml", ":/*dvc.yaml"))
    return {"mlflow.source.git.commit": commit, "git_dirty": str(dirty).lower()} if commit else {}


def _say(what: str) -> None:
    print(f"MLflow tracking {what}; the results do not depend on it", file=sys.stderr)


if __name__ == "__main__":
    main(sys.stdin)
