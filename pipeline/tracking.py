"""MLflow, in one place. Work never depends on it: absent, switched off or out of reach, it costs one line on stderr; and it never
holds work up: all calls are made, in order, by one background thread."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

FLUSH_SECONDS = 5.0  # metrics are written together now and then: one write costs milliseconds, an epoch of a small model too
STORE = "mlflow"  # folder of the local store, below the current one


class Run:
    """One MLflow run. `start` makes it, in the background: () -> (client, run id), or None where there is nothing to track to."""

    def __init__(self, start: Callable[[], tuple[Any, str] | None]) -> None:
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self.target: tuple[Any, str] | None = None
        self.points: list[tuple[str, float, int, int]] = []
        self.flushed = time.monotonic()
        self.worker.submit(self._start, start)

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """One point of each curve."""
        now = int(time.time() * 1000)
        self.points += [(metric_name(name), float(value), now, step) for name, value in metrics.items()]
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        points, self.points, self.flushed = self.points, [], time.monotonic()
        for start in range(0, len(points), 1000):  # what one call takes
            self._do(_write_points, points[start : start + 1000])

    def artifact(self, path: str | Path, into: str | None = None) -> None:
        """One file, or all files of a folder."""
        if Path(path).is_dir():
            self._do(lambda client, run_id: client.log_artifacts(run_id, str(path), into))
        else:
            self._do(lambda client, run_id: client.log_artifact(run_id, str(path), into))

    def end(self, status: str) -> None:
        """Waits for everything to be written."""
        self.flush()
        self._do(lambda client, run_id: client.set_terminated(run_id, status))
        self.worker.shutdown()

    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        self.worker.submit(self._guarded, action, *arguments)

    def _start(self, start: Callable[[], tuple[Any, str] | None]) -> None:
        try:
            self.target = start()
        except Exception as error:  # no store, no rights, a store of another version: the work goes on
            _say(f"off ({_first_line(error)})")

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        if self.target is not None:
            try:
                action(*self.target, *arguments)
            except Exception as error:  # whatever the store raises, the work goes on
                _say(f"stopped ({_first_line(error)})")
                self.target = None


@contextmanager
def track(
    *, enabled: bool, uri: str, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Run]:
    """A run `name` of `experiment`, ended as FINISHED, or FAILED when the block raises. There is one run for a content key: doing
    the same work again replaces it. uri "" is MLFLOW_TRACKING_URI where set, else an sqlite store in mlflow/ of this folder."""
    run = Run(lambda: _new_run(store_uri(uri), experiment, name, key, params, tags) if enabled else None)
    try:
        yield run
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


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
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)  # makes the tables
        return client


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ only: hcp[gap] -> hcp.gap."""
    return "".join(c if c.isalnum() or c in "_-./" else "." for c in name).strip(".")


def _new_run(
    uri: str, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> tuple[Any, str] | None:
    try:
        client = open_store(uri)
    except ImportError:
        _say("off: mlflow is not installed")
        return None
    from mlflow.entities import Param

    experiment_id = _experiment(client, uri, experiment)
    for old in client.search_runs([experiment_id], f"tags.content_key = '{key}'"):
        client.delete_run(old.info.run_id)
    run = client.create_run(experiment_id, run_name=name, tags={**tags, **_git_tags(), "content_key": key})
    client.log_batch(run.info.run_id, params=[Param(path, str(value)) for path, value in flatten(params).items()])
    return client, run.info.run_id


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
    return FileLock(folder / ".lock")


def _write_points(client: Any, run_id: str, points: list[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(*point) for point in points])


def _git_tags() -> dict[str, str]:
    """The commit that the code is at, and whether the working tree differs from it. Nothing outside a git checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "params.yaml", "dvc.yaml"))
    return {"mlflow.source.git.commit": commit, "git_dirty": str(dirty).lower()} if commit else {}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _say(what: str) -> None:
    print(f"MLflow tracking {what}; the results do not depend on it", file=sys.stderr)
