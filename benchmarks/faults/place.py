"""A folder that the small profile runs in: made, copied, compared, and commands in it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.small import ROOT, small_params

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
}
PATIENCE = 1800  # seconds: more than any command here takes
RESULTS = ("data", "models", "metrics")
TIMED = ("data/cost/", "metrics/tables/cost.csv", "metrics/tables/pcl.md", "metrics/tables/sha256sums", "metrics/report.")


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE
    )


def start(folder: Path, *command: str) -> "subprocess.Popen[bytes]":
    """In a session of its own, which can be killed as a whole."""
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )


def done(folder: Path, *command: str) -> None:
    """Raises ValueError where the command fails."""
    finished = run(folder, *command)
    if finished.returncode:
        raise ValueError(f"{' '.join(command)} failed in {folder}: {' '.join(finished.stderr.split())[-300:]}")


def make_place(folder: Path) -> None:
    """The small profile in a new folder, nothing run. Without MLflow, whose store the faults would hit too."""
    folder.mkdir(parents=True)
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "config", "core.analytics", "false")):
        done(folder, *command)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "data/given").mkdir(parents=True)
    params: dict[str, Any] = small_params() | {"tracking": {"enabled": False}}
    (folder / "params.yaml").write_text(json.dumps(params))


def copy_place(base: Path, folder: Path) -> None:
    """In place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, symlinks=True)


def files(folder: Path) -> Iterator[Path]:
    for part in RESULTS:
        yield from (path for path in sorted((folder / part).rglob("*")) if path.is_file())


def results(folder: Path) -> dict[str, str]:
    """Digests of the finished results by path, without those that show how long something took."""
    named = ((path.relative_to(folder).as_posix(), path) for path in files(folder) if not path.name.startswith("."))
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named if not name.startswith(TIMED)}


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def half_written(folder: Path) -> list[str]:
    """What a writer has left behind."""
    return [path.relative_to(folder).as_posix() for path in files(folder) if ".part" in path.name or path.suffix == ".tmp"]
