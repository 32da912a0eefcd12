"""Where a killed run leaves its work, and who may go on with it."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.runtime.unfinished import KEPT, unfinished_work

OTHER = """
import sys, time
from pipeline.runtime.unfinished import unfinished_work
with unfinished_work("train", "digits", "hcp", 0, key=sys.argv[1]) as folder:
    (folder / "last.pt").write_text("theirs")
    print(folder.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def other() -> Iterator["subprocess.Popen[str]"]:
    """Another process in the folder of key `a`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", OTHER, "a"], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "a\n"
    yield process
    process.kill()
    process.wait()


def failing(key: str) -> None:
    with suppress(KeyboardInterrupt), unfinished_work("train", "digits", "hcp", 0, key=key) as folder:
        (folder / "last.pt").write_text("half")
        raise KeyboardInterrupt


def test_work_is_kept_until_it_is_done() -> None:
    failing("a")
    with unfinished_work("train", "digits", "hcp", 0, key="a") as folder:
        assert (folder / "last.pt").read_text() == "half"
    assert not Path(".ckpt/train-digits-hcp-0").exists()


def test_work_with_other_params_is_not_gone_on_with_and_goes_after_two_weeks() -> None:
    failing("a")
    with unfinished_work("train", "digits", "hcp", 0, key="b") as folder:
        assert not (folder / "last.pt").exists()
    assert Path(".ckpt/train-digits-hcp-0/a/last.pt").exists()  # of an experiment, perhaps, that is started again
    two_weeks_ago = time.time() - KEPT - 1
    for path in (Path(".ckpt/train-digits-hcp-0/a"), *Path(".ckpt/train-digits-hcp-0/a").iterdir()):
        os.utime(path, (two_weeks_ago, two_weeks_ago))
    with unfinished_work("train", "digits", "hcp", 0, key="b"):
        pass
    assert not Path(".ckpt/train-digits-hcp-0").exists()


@pytest.mark.parametrize("key", ["a", "b"])
def test_two_runs_of_one_item_share_no_folder(key: str, other: "subprocess.Popen[str]") -> None:
    with unfinished_work("train", "digits", "hcp", 0, key=key) as folder:
        assert folder.name == (f"a-{os.getpid()}" if key == "a" else "b")
        (folder / "last.pt").write_text("ours")
    assert [path.read_text() for path in Path(".ckpt").rglob("last.pt")] == ["theirs"]


def test_the_work_of_a_killed_process_is_free(other: "subprocess.Popen[str]") -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    start = time.monotonic()
    with unfinished_work("train", "digits", "hcp", 0, key="a") as folder:
        assert (folder / "last.pt").read_text() == "theirs"
    assert time.monotonic() - start < 5


def test_a_queued_experiment_keeps_its_work_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    with unfinished_work("train", "digits", "hcp", 0, key="a") as folder:
        assert folder == tmp_path / "repository/.ckpt/train-digits-hcp-0/a"


def test_without_locks_the_work_of_others_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """On such a file system nobody knows whether somebody is at work there."""

    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    failing("a")
    monkeypatch.setattr(fcntl, "flock", flock)
    with unfinished_work("train", "digits", "hcp", 0, key="b") as folder:
        (folder / "last.pt").write_text("ours")
    assert Path(".ckpt/train-digits-hcp-0/a/last.pt").read_text() == "half"
    assert not folder.exists()
