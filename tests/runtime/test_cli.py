"""What the user sees when a stage fails: one line and an exit status, whatever failed."""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from pipeline.runtime.cli import one_line_errors
from pipeline.runtime.device import set_up_device


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


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise AssertionError("begun all the same")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: Linux and macOS are supported; on Windows, use WSL")


@pytest.mark.parametrize(("device", "said"), [("auto", True), ("cpu", True), ("cuda", False)])
def test_a_mac_is_told_that_its_gpu_is_not_used(
    device: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="no CUDA device") if device == "cuda" else nullcontext():
        assert set_up_device(device, 0) == torch.device("cpu")
    assert ("MPS, Apple's GPU, is not supported here" in capsys.readouterr().err) == said


def test_outside_of_a_git_repository_make_says_so_before_anything_else(tmp_path: Path) -> None:
    """As from a ZIP download."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run(["make", "repro"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == "This folder is not a git repository, which DVC needs: get it by git clone, or run git init in it.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


def test_a_locale_that_is_not_utf8_changes_nothing(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("label: HCP (SM)", "label: Ὑπέρ 猫")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    for command in (["stages.items"], ["stages.data", "digits"], ["stages.show", "hcp"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=plain, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert rb"label: \u1f59\u03c0\u03ad\u03c1 \u732b" in done.stdout
    assert "Ὑπέρ 猫" in (tmp_path / "data/items/report.yaml").read_text(encoding="utf-8")
