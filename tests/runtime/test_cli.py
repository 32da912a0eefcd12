"""What the user sees when a stage fails: one line and an exit status, whatever failed."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from pipeline.runtime.cli import one_line_errors


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("eps: must be above 0"), "error: eps: must be above 0"),
        (PermissionError(13, "Permission denied", "models"), "error: [Errno 13] Permission denied: 'models'"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "evaluation.batch_size"),
        (MemoryError(), "training.batch_size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 4 TB"), "batch_size"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "compute.device to cpu"),
    ],
)
def test_an_error_that_can_be_mended_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError("x")


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on from here\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_letters_of_a_label_costs_nothing(encoding: str) -> None:
    code = "from pipeline.runtime.cli import one_line_errors\nwith one_line_errors():\n    print('\u03b5 \u732b')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("\u03b5 \u732b\n".encode() if encoding == "utf-8" else b"\\u03b5 \\u732b\n")
