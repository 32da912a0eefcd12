"""What a stage tells MLflow while it works (`track`), and the same from its record files afterwards (`sync`). A thread of the stage
writes to the store, one step after the other: work does not wait for it, and a store that fails costs one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.runtime.cli import is_first
from pipeline.runtime.files import atomic_path
from pipeline.tracking.advice import reason
from pipeline.tracking.entries import data_digests, md5
from pipeline.tracking.store import Settings, Store, StoredRun, import_mlflow, run_key, stage_tag

RECORDS = ("models/**/*.json", "data/**/run.json")
FIELDS = {"model", "key", "trained", "params", "tags", "metrics", "curves", "artifacts"}  # of a record


class TrackedRun:
    """Keeps what it is told for the record file, and passes it on to the store where there is one."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.about = about
        self.points: dict[int, dict[str, float]] = {}  # by step; those of step 0 are no curves
        self.artifacts: list[str] = []
        self.stored: StoredRun | None = None
        self.writer: ThreadPoolExecutor | None = None

    def log(self, metrics: Mapping[str, float], step: int = 0, *, record: bool = True) -> None:
        """Figures, or with a step one point of each curve. record False: what differs each time, such as speed; to MLflow alone."""
        values = {name: float(value) for name, value in metrics.items()}
        if record:
            self.points.setdefault(step, {}).update(values)
        self._later(lambda stored: stored.log([(step, values)]))

    def artifact(self, path: Path) -> None:
        """One file, or all files of a folder. They must stay as they are until the block ends."""
        self.artifacts.append(Path(path).as_posix())
        self._later(lambda stored: stored.artifact(Path(path)))

    def begin(self, settings: Settings) -> None:
        if self._harmless(import_mlflow):  # not in the thread: an import of the work could meet one that is half done
            self.writer = ThreadPoolExecutor(1)
            self.writer.submit(self._harmless, lambda: self._open(settings))

    def end(self, status: str) -> None:
        if status == "FINISHED":
            data = Path("data", f"{self.about['tags'].get('dataset')}.npz")
            self._later(lambda stored: stored.add_files(Path(), md5(data) if data.is_file() else None))
        self._later(lambda stored: stored.end(status))
        if self.writer is not None:
            self.writer.shutdown()  # waits until all of it is done

    def content(self) -> dict[str, Any]:
        """Of the record file."""
        curves = [[step, values] for step, values in sorted(self.points.items()) if step]
        return {**self.about, "metrics": self.points.get(0, {}), "curves": curves, "artifacts": self.artifacts}

    def _open(self, settings: Settings) -> None:
        self.stored = Store(settings).open_run(self.about, _source_tags())

    def _later(self, action: Callable[[StoredRun], None]) -> None:
        if self.writer is not None:
            self.writer.submit(self._harmless, lambda: None if self.stored is None else action(self.stored))

    def _harmless(self, action: Callable[[], None]) -> bool:
        """Whether it went well. After what did not, nothing more is written to the store."""
        try:
            action()
        except Exception as error:  # no server, no rights, another schema, a deleted experiment: whatever a store may raise
            self.stored = None
            what = "off: mlflow is not installed" if isinstance(error, ImportError) else f"stopped ({reason(error)})"
            say(what, self.about["tags"].get("stage"))
            return False
        return True


@contextmanager
def track(
    settings: Settings,
    *,
    model: str,
    key: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    record: Path,
    trained: str | None = None,
) -> Iterator[TrackedRun]:
    """Tracks work on `model` ("digits/hcp/0") with content key `key`: its training, which has a run of its own, or, where `trained`
    is the key of that training, results on the model, which go into that run. tags["stage"] names the work within the run. The same
    work again adds nothing; a killed run is resumed. `record` is written when the block ends well, whatever the store
    did: the same work gives the same bytes. Of several ranks the first does all this."""
    plain = json.loads(json.dumps(dict(params), default=str))  # as in the record file, for sync
    run = TrackedRun({"model": model, "key": key, "trained": trained, "params": plain, "tags": dict(tags)})
    first = is_first()
    if first and settings.enabled:
        run.begin(settings)
    try:
        yield run
    except BaseException as error:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.end("FINISHED")
    if first:
        with atomic_path(record) as path:
            path.write_text(json.dumps(run.content(), indent=1) + "\n")


def sync(settings: Settings, folder: Path) -> int:
    """Records what the record files below `folder` have and the store has not, trainings first. A run that the user has deleted in
    the store stays so. Returns how many files were recorded. Raises ValueError when the store fails."""
    if not settings.enabled:
        return 0
    store = open_store(settings)
    with store_errors():
        there = {(run.data.tags.get("key", ""), *tag) for run in store.runs(deleted=True) for tag in run.data.tags.items()}
    missing = [
        (path, record) for path, record in _records(folder) if (run_key(record), stage_tag(record), record["key"]) not in there
    ]
    failed, digests = 0, data_digests(folder) if missing else {}
    for path, record in missing:
        try:
            _record(store, record, folder, int(path.stat().st_mtime * 1000), digests.get(path.relative_to(folder).as_posix()))
            print(f"recorded in MLflow: {path}", flush=True)
        except Exception as error:
            failed += 1
            print(f"not recorded in MLflow: {path} ({reason(error)})", file=sys.stderr, flush=True)
            if failed == 3:
                break  # it is not this file, it is the store
    if failed:
        raise ValueError("the MLflow store does not have all runs; `python -m stages.sync` tries again")
    return len(missing)


@contextmanager
def store_errors() -> Iterator[None]:
    """Whatever a store raises becomes a ValueError of one line."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"the MLflow store fails ({reason(error)})") from None


def open_store(settings: Settings) -> Store:
    with store_errors():
        store = Store(settings)
        store.runs("attributes.run_name = ''")  # tables that cannot be read show here
    return store


def _records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Trainings before what was measured on their models, the oldest first."""
    found = []
    for path in (path for pattern in RECORDS for path in folder.glob(pattern)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if missing := FIELDS - {*record}:
                raise KeyError(*missing)
            found.append((record["trained"] is not None, path.stat().st_mtime, path, record))
        except (ValueError, KeyError, TypeError):
            print(f"not a record of a run: {path}", file=sys.stderr, flush=True)
    return [(path, record) for _, _, path, record in sorted(found, key=itemgetter(0, 1, 2))]


def _record(store: Store, record: Mapping[str, Any], folder: Path, when: int, data_digest: str | None) -> None:
    run = store.open_run(record, {"mlflow.source.name": "sync"}, when)
    if run is None:
        return
    run.log([(0, record["metrics"]), *((step, values) for step, values in record["curves"])])
    for path in (folder / name for name in record["artifacts"]):
        if path.exists():
            run.artifact(path)
    run.add_files(folder, data_digest)
    run.end("FINISHED")


def say(what: str, stage: str | None) -> None:
    later = "" if stage == "evaluate" else "; `python -m stages.sync` records this run later"
    print(f"MLflow tracking {what}; the results do not depend on it{later}", file=sys.stderr, flush=True)


def _source_tags() -> dict[str, str]:
    """The script, DVC's experiment if it is part of one, and in a git checkout the commit that the code is at and whether the
    working tree differs from it."""
    source = {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    if experiment := os.environ.get("DVC_EXP_NAME"):
        source["experiment"] = experiment
    code = (":/*.py", ":/*params.yaml", ":/*dvc.yaml")
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", *code]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return source
    dirty = any(not line.startswith("#") for line in lines)
    return {**source, "mlflow.source.git.commit": lines[0].removeprefix("# branch.oid "), "git_dirty": str(dirty).lower()}
