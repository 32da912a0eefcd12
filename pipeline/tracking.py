"""MLflow, as the rest of the pipeline sees it. A run is spooled to mlflow/spool/*.jsonl as lines of JSON: which run it is, points
of its curves, a status; artifacts are copied beside it. One process for all stages (tracking_writer.py) moves that to the store.
So work neither loads MLflow nor waits for the store nor fails because of either."""

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

STORE = Path("mlflow")  # below the current folder
SPOOL = STORE / "spool"
WRITER_LOCK = STORE / "writer.lock"
LOG = STORE / "writer.log"  # what the writer has to complain of


class TrackedRun:
    """One MLflow run, or nothing where tracking is switched off."""

    def __init__(self) -> None:
        self.file: IO[str] | None = None
        self.spooled = SPOOL / f"{time.time_ns()}-{os.getpid()}.jsonl"  # they sort by age
        self.log_read = log_size()

    def begin(self, **start: Any) -> None:
        with _harmless():
            SPOOL.mkdir(parents=True, exist_ok=True)
            new = self.spooled.with_suffix(".new")
            self.file = new.open("x")
            fcntl.flock(self.file, fcntl.LOCK_EX)  # the system drops it when the process ends, however it does: see stage_lives
            self.file.write(_line(start))
            self.file.flush()
            os.fsync(self.file.fileno())  # a power cut may take what follows, but leaves no file without this line
            new.rename(self.spooled)  # whole and locked as soon as it can be seen
            wake_writer()

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """One point of each curve."""
        self._send(metrics=dict(metrics), step=step)

    def artifact(self, path: str | Path) -> None:
        """One file, or all files of a folder, as they are now; the run gets them when it ends."""
        path, copies = Path(path), self.spooled.with_suffix("")
        with _harmless():
            if self.file is None:
                return
            copies.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copies, dirs_exist_ok=True)
            else:
                shutil.copy(path, copies)

    def end(self, status: str) -> None:
        """The writer does the rest. What it could not do while this run was on is said here, where a user sees it."""
        self._send(status=status)
        if self.file is not None:
            with _harmless():
                self.file.close()
                wake_writer()  # where there is one, it has nothing to wake; one that was killed is replaced
                print(*complaints(self.log_read)[-1:], sep="", end="", file=sys.stderr)

    def _send(self, **message: Any) -> None:
        """One line, given to the system at once: it outlives this process, and is in time for who watches the curves."""
        if self.file is not None:
            with _harmless():
                self.file.write(_line(message))
                self.file.flush()


def _line(message: Mapping[str, Any]) -> str:
    return json.dumps({**message, "timestamp": int(time.time() * 1000)}, default=str) + "\n"


@contextmanager
def track(
    *, enabled: bool, uri: str, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """A run `name` of `experiment`, ended as FINISHED, or FAILED when the block raises. There is one run for a content key: doing
    the same work again replaces it. uri "" is MLFLOW_TRACKING_URI where set, else an sqlite store in mlflow/ of this folder."""
    run = TrackedRun()
    if enabled and importlib.util.find_spec("mlflow") is None:
        say("off: mlflow is not installed")
    elif enabled:
        named = {"uri": store_uri(uri), "experiment": experiment, "name": name, "key": key}
        run.begin(**named, params=flatten(params), tags={**tags, **_git_tags()})
    try:
        yield run
    except BaseException as error:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.end("FINISHED")


def store_uri(uri: str) -> str:
    """An absolute tracking URI."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE.resolve()}/mlflow.db"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def spool() -> set[Path]:
    """The runs that are not, or not wholly, in the store."""
    return set(SPOOL.glob("*.jsonl"))


def stage_lives(file: IO[bytes]) -> bool:
    """Whether the process that writes this spool file is there and has not ended its run. A lock says so, because a process id may
    belong to another process by now."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[str] | None]:
    """The locked file, or None where another process has it and `wait` is False."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def wake_writer() -> None:
    """Starts the writer where there is none. In a session of its own: it outlives the stage, and a signal to the stage's group."""
    with locked(WRITER_LOCK, wait=False) as free:
        if free is None:
            return
    with LOG.open("a") as log:  # not the stage's output: who reads that from a pipe would wait for the writer too
        command = [sys.executable, "-m", "pipeline.tracking_writer"]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def log_size() -> int:
    return LOG.stat().st_size if LOG.is_file() else 0


def complaints(log_read: int) -> list[str]:
    """What the writer has said since its log was `log_read` bytes long."""
    written = LOG.read_bytes()[log_read:] if LOG.is_file() else b""
    return [line for line in written.decode().splitlines(keepends=True) if line.startswith("MLflow tracking")]


def say(what: str) -> None:
    print(f"MLflow tracking {what}; the results do not depend on it", file=sys.stderr, flush=True)


@contextmanager
def _harmless() -> Iterator[None]:
    """What goes wrong with the spool, such as no right to write or a full disk, is one line."""
    try:
        yield
    except OSError as error:
        say(f"stopped ({type(error).__name__}: {error})")


def _git_tags() -> dict[str, str]:
    """The commit that the code is at, and whether the working tree differs from it. Nothing outside a git checkout."""
    command = [
        "git",
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=no",
        "--",
        ":/*.py",
        ":/*params.yaml",
        ":/*dvc.yaml",
    ]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {}
    dirty = any(not line.startswith("#") for line in lines)
    return {"mlflow.source.git.commit": lines[0].removeprefix("# branch.oid "), "git_dirty": str(dirty).lower()}
