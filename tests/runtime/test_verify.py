"""What DVC does not notice: an object of its cache, or an output, with other content than dvc.lock says."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from pipeline.runtime.verify import verify

MODEL, LISTED = b"weights", {"a.npz": b"first", "b.json": b"second"}


def digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


LISTING = json.dumps([{"md5": digest(content), "relpath": name} for name, content in LISTED.items()]).encode()


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as DVC leaves it after two stages: a model, and a folder of two files."""
    folder = tmp_path_factory.mktemp("verify")
    assert run(folder, "dvc", "init", "-q", "--no-scm").returncode == 0
    (folder / "out").mkdir()
    (folder / "model.pt").write_bytes(MODEL)
    for name, content in LISTED.items():
        (folder / "out" / name).write_bytes(content)
    stages = {name: {"cmd": f"true {out}", "outs": [out]} for name, out in (("train", "model.pt"), ("attack-hcp", "out"))}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    done = run(folder, "dvc", "commit", "-f")
    assert done.returncode == 0, done.stderr
    return folder


def stored(folder: Path, content: bytes, suffix: str = "") -> Path:
    """The object of DVC's cache, which DVC itself has written."""
    path = folder / ".dvc/cache/files/md5" / digest(content)[:2] / (digest(content)[2:] + suffix)
    assert path.read_bytes() == content
    return path


def test_what_dvc_has_written_is_whole(made: Path) -> None:
    found = verify(made)
    assert (found.objects, found.outputs) == ({}, {})
    assert found.checked == 7  # a model, a listing and two files; without the listing the same again in the folder


@pytest.mark.parametrize(
    ("content", "suffix", "named"),
    [
        (MODEL, "", ["model.pt of train"]),
        (LISTED["b.json"], "", ["out/b.json of attack-hcp"]),
        (LISTING, ".dir", ["out of attack-hcp"]),
    ],
)
def test_a_changed_object_is_named_with_what_it_holds(made: Path, content: bytes, suffix: str, named: list[str]) -> None:
    path = stored(made, content, suffix)
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"x")
    try:
        assert verify(made).objects == {path: named}
        done = run(made, "stages.verify")
        assert done.returncode == 1
        assert named[0] in done.stdout
    finally:
        path.write_bytes(content)


def test_a_changed_output_of_the_same_time_and_size_is_found(made: Path) -> None:
    path = made / "out/a.npz"
    before = path.stat()
    path.write_bytes(b"fi-st")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    try:
        assert verify(made).outputs == {path: "attack-hcp"}
    finally:
        path.write_bytes(LISTED["a.npz"])
    done = run(made, "stages.verify")
    assert (done.returncode, done.stdout) == (0, "7 files checked, 0 changed\n")


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, "dvc", "init", "-q", "--no-scm").returncode == 0
    with pytest.raises(ValueError, match=r"there is no .*dvc\.lock: nothing has been run here"):
        verify(tmp_path)
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(ValueError, match=r"dvc\.lock is damaged .*git checkout"):
        verify(tmp_path)
