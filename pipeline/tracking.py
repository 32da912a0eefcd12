"""MLflow, as the rest of the pipeline sees it. The store is written by a process of its own (tracking_writer.py), fed with lines of
JSON: loading MLflow and waiting for the store never hold work up, work never fails because of them, and a run whose process was
killed is marked so."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

END_SECONDS = 120.0  # what a store may take to write what is left, before work goes on without it


class TrackedRun:
    """One MLflow run, or nothing where tracking is switched off."""

    def __init__(self, writer: "subprocess.Popen[str] | None") -> None:
        self.writer = writer

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """One point of each curve."""
        self._send(metrics=dict(metrics), step=step, timestamp=int(time.time() * 1000))

    def artifact(self, path: str | Path) -> None:
        """One file, or all files of a folder. Read at once or a little later: leave it there until the run ends."""
        self._send(artifact=str(path))

    def end(self, status: str) -> None:
        """Waits until everything is written, but not for ever."""
        self._send(status=status)
        if self.writer is not None and self.writer.stdin is not None:
            with suppress(BrokenPipeError):
                self.writer.stdin.close()
            try:
                self.writer.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                self.writer.kill()
                print("MLflow tracking stopped (no answer); the results do not depend on it", file=sys.stderr)

    def _send(self, **message: Any) -> None:
        if self.writer is not None and self.writer.stdin is not None:
            with suppress(BrokenPipeError):  # the writer has given up, and has said why
                self.writer.stdin.write(json.dumps(message) + "\n")
                self.writer.stdin.flush()


@contextmanager
def track(
    *, enabled: bool, uri: str, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """A run `name` of `experiment`, ended as FINISHED, or FAILED when the block raises. There is one run for a content key: doing
    the same work again replaces it. uri "" is MLFLOW_TRACKING_URI where set, else an sqlite store in mlflow/ of this folder."""
    run = TrackedRun(None)
    if enabled:
        command = [sys.executable, "-m", "pipeline.tracking_writer"]  # in a session of its own: it outlives a signal to the group
        run = TrackedRun(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True))
        run._send(uri=uri, experiment=experiment, name=name, key=key, params=flatten(params), tags=dict(tags))
    try:
        yield run
    except BaseException as error:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.end("FINISHED")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
