"""What a command has started ends with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

GROUP = (sys.executable, str(ROOT / "stages/group.py"))
MAKEFILE = """run:
	@if true; then exec {group} sh -c 'echo a | xargs -I{{}} sh -c "echo \\$$\\$$ > pid; sleep 100; true"'; fi
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started(folder: Path, *command: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command, and the process that wrote its number into the file `pid`."""
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not ((folder / "pid").exists() and (folder / "pid").read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int((folder / "pid").read_text())
    assert alive(pid)
    return process, pid


HANGUP = pytest.param(
    signal.SIGHUP,
    marks=pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="the tests were started by nohup"),
)


@pytest.mark.parametrize("number", [signal.SIGTERM, HANGUP])
def test_kill_reaches_what_make_and_xargs_have_started(tmp_path: Path, number: int) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE.format(group=" ".join(GROUP)))
    process, pid = started(tmp_path, "make", "run")
    tell = os.killpg if number == signal.SIGHUP else os.kill  # a terminal that is closed tells all that it has started
    tell(process.pid, number)
    assert process.wait(timeout=30) != 0
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_nohup_holds(tmp_path: Path) -> None:
    process, pid = started(tmp_path, "nohup", *GROUP, "sh", "-c", "echo $$ > pid; sleep 100")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    assert alive(pid)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_the_status_is_that_of_the_command() -> None:
    assert subprocess.run([*GROUP, "sh", "-c", "exit 7"], check=False).returncode == 7
    assert subprocess.run([*GROUP, "sh", "-c", "kill -9 $$"], check=False).returncode == 137
    done = subprocess.run([*GROUP, "no-such-command"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (127, "error: no-such-command cannot be run (No such file or directory)\n")
