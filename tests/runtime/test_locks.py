"""What a killed dvc leaves in its lock file, and what the user is told of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.repo import Repo
from dvc.rwlock import rwlock

from pipeline.runtime.locks import stale_lock


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path(".dvc/tmp/rwlock")
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def held(number: int, command: str) -> str:
    return json.dumps({"write": {"/a/models": {"pid": number, "cmd": command}}, "read": {}})


def test_no_lock_an_empty_one_and_that_of_a_process_that_is_gone_need_nothing(file: Path) -> None:
    assert stale_lock(Path()) is None
    file.write_text("{}")
    assert stale_lock(Path()) is None
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    file.write_text(held(done.pid, "/bin/dvc repro"))
    assert stale_lock(Path()) is None


def test_a_torn_lock_is_named(file: Path) -> None:
    for text in ("", '{"write": {"/a'):
        file.write_text(text)
        assert str(stale_lock(Path())).endswith("is truncated, perhaps by a kill: if no DVC process runs here, rm .dvc/tmp/rwlock")


def test_a_lock_whose_process_number_another_process_has_is_named_with_both(file: Path, other: subprocess.Popen[bytes]) -> None:
    file.write_text(held(other.pid, "/bin/dvc repro -s data@digits"))
    done = subprocess.run(
        [sys.executable, "-m", "stages.locks"], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for part in ("`/bin/dvc repro -s data@digits`", f"process {other.pid},", "time.sleep(60)", "rm .dvc/tmp/rwlock"):
        assert part in line
    assert file.is_file()


def test_the_lock_of_a_dvc_that_runs_is_left_alone(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    """A lock as DVC itself writes it, of a process that lives."""
    Repo.init(str(tmp_path), no_scm=True).close()
    lock_dir = str(tmp_path / ".dvc/tmp")
    with Repo(str(tmp_path)) as repo, rwlock(lock_dir, repo.fs, " ".join(sys.argv), [], [str(tmp_path / "out")], False):
        assert str(tmp_path / "out") in (tmp_path / ".dvc/tmp/rwlock").read_text()
        assert stale_lock(tmp_path) is None
    written = {"read": {str(tmp_path): [{"pid": other.pid, "cmd": "dvc -c import time; time.sleep(60)"}]}}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(written))
    assert stale_lock(tmp_path) is None
