"""The whole pipeline, `make repro`, from nothing, again when nothing has changed, and after the change of one method: in a clone of
the last commit in a temporary folder, with this Python's packages. Half an hour. `python -m benchmarks.repro`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks.measure import child
from benchmarks.results import Report, parse, run_main, start, write

CHANGE = ("input_gradient: 0.1", "input_gradient: 0.11")  # of one method that no other builds on
NOTE = "Planned: by `make plan` just before. GB: the most that one of the processes held."
GB = 1e9


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repro", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="items at a time; 1: dvc repro alone (default: %(default)s)")
    parser.add_argument("--stages", nargs="*", default=[], help="these alone, by dvc repro (default: all, by make repro)")
    return parser


def change_one_method(clone: Path) -> None:
    """Raises ValueError where params.yaml no longer has the line once."""
    file, (before, after) = clone / "params.yaml", CHANGE
    text = file.read_text()
    if text.count(f"{before}\n") != 1:
        raise ValueError(f"params.yaml has {before!r} {text.count(before)} times: name another change in benchmarks/repro.py")
    file.write_text(text.replace(f"{before}\n", f"{after}\n"))


def planned(clone: Path, jobs: int, env: Mapping[str, str], *options: str) -> float:
    """Seconds, as `make plan` has them."""
    command = [sys.executable, "-m", "stages.plan", "--json", f"--jobs={jobs}", *options]
    done = subprocess.run(command, cwd=clone, env={**env, "PYTHONPATH": str(clone)}, stdout=subprocess.PIPE, text=True, check=True)
    total = json.loads(done.stdout)["total"]
    return 3600 * float(total["hours_side_by_side" if jobs > 1 else "hours"])


def main() -> None:
    chosen, device = parse(arguments(), {})
    stages = chosen.stages or (["data"] if chosen.quick else [])
    known, rows = start(chosen, device), []
    command = ["dvc", "repro", *stages] if stages else ["make", "-o", ".venv/installed", "repro", f"JOBS={chosen.jobs}"]
    shown = " ".join(command).replace(" -o .venv/installed", "")
    packages = Path(sys.prefix)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        child(["git", "clone", "--quiet", ".", str(clone)])
        (clone / ".venv").symlink_to(packages)
        env = {**os.environ, "PATH": f"{packages / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        for what in ("from nothing", "nothing changed", "one method changed"):
            if what == "one method changed":
                change_one_method(clone)
            print(f"{shown}: {what}", file=sys.stderr)
            options = {"nothing changed": None, "one method changed": ["--changed"]}.get(what, [])
            plan = float("nan") if stages or options is None else planned(clone, chosen.jobs, env, *options)
            done = child(command, cwd=clone, env=env)
            rows.append((shown, what, done.seconds, plan, done.peak))
    table = pd.DataFrame(rows, columns=["command", "when", "seconds", "planned", "bytes"])
    times = {name: table[name].map("{:.1f}".format).replace("nan", "") for name in ("seconds", "planned")}
    lines = table.assign(**times, GB=(table["bytes"] / GB).map("{:.2f}".format))
    report = Report("repro", "The whole pipeline", table, {"": lines.drop(columns="bytes")}, [NOTE], [])
    print(write(report, chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
