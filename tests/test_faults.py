"""The fault campaign in small (--slow), and the mistakes that it draws."""

import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from benchmarks.faults.bad_data import FAULTS, write_folder, write_parquet
from benchmarks.faults.bad_params import MISTAKES, mistake
from benchmarks.faults.kills import REPRO, chain
from benchmarks.faults.place import done, results

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_drawn_by_the_seed_and_changes_the_text(kind: str) -> None:
    drawn = [mistake(TEXT, kind, random.Random(seed)) for seed in range(20)]
    assert all(text != TEXT for text, _ in drawn)
    assert len({text for text, _ in drawn}) > 10
    assert drawn == [mistake(TEXT, kind, random.Random(seed)) for seed in range(20)]


@pytest.mark.parametrize("form", FAULTS)
def test_a_fault_changes_what_is_in_the_folder(form: str, tmp_path: Path) -> None:
    for number, fault in enumerate(FAULTS[form]):
        folder = tmp_path / str(number)
        {"folder": write_folder, "parquet": write_parquet}[form](folder)
        before = content(folder)
        fault(folder, random.Random(0))
        assert content(folder) != before


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(("name", "left"), [("dvc.lock", "schem"), ("dvc.lock", "schema: '2"), (".dvc/tmp/rwlock", "")])
def test_a_file_that_dvc_left_half_written_is_deleted_and_the_run_goes_on(tmp_path: Path, name: str, left: str) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  made:\n    cmd: echo 1 > made\n    outs:\n    - made\n")
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), REPRO):
        done(tmp_path, *command)
    wanted = results(tmp_path)
    (tmp_path / name).write_text(left)
    case = chain(tmp_path, REPRO, "nothing", [], 1.0, random.Random(0), wanted)
    assert (case.what, case.note) == (f"nothing, after  s, {name} deleted", "")


@pytest.mark.slow
def test_the_campaign_finds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "faults.md"
    few = ["--kills", "4", "--files", "4", "--params", "9", "--images", "16", "--some", "1"]
    command = [sys.executable, "-m", "benchmarks.faults", *few, "--seeds", "7", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "## What went wrong\n\nNothing." in out.read_text(encoding="utf-8")
    assert {"kill", "damaged file", "two at once", "params.yaml", "images"} <= set(pd.read_csv(out.with_suffix(".csv"))["kind"])
