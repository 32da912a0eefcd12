"""What kills, full disks and damaged files do to a run. The small profile runs once undisturbed; then each fault meets a copy of
it, the run is repeated, and its results must be those of the undisturbed run, bit by bit."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.faults.cases import STAGES, Case
from benchmarks.faults.kills import REPRO, killed_repro, killed_stage, two_at_once
from benchmarks.faults.obstacles import KINDS, changed_file, folders, has_namespaces, obstacle
from benchmarks.faults.place import copy_place, done, make_place, results
from benchmarks.machine import commit
from pipeline.runtime.files import atomic_path

IN_A_ROW = {"stage": 3, "repro": 5}  # kills, before the work is let to its end
ALL = ("kill", *KINDS, "damaged file", "two at once")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="half of them on stages, half on dvc repro (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=ALL, default=ALL, metavar="KIND", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--some", type=int, default=0, help="of every kind but kills so many at most, drawn; 0: all")
    parser.add_argument("--out", type=Path, default=Path("metrics/faults.md"), help="the table (default: %(default)s)")
    parser.add_argument("--place", type=Path, help="where the profile runs, kept for the next time (default: a temporary folder)")
    return parser


def cases_of(place: Path, kinds: list[str], kills: int, some: int, rng: random.Random) -> Iterator[Case]:
    """One after the other. place: the folder of `new`, where nothing was run, and `base`, where all was."""
    new, base, copy = place / "new", place / "base", place / "copy"
    wanted = results(base)
    if "kill" in kinds:
        for number, count in enumerate(parts(kills - kills // 2, IN_A_ROW["stage"])):
            stage = STAGES[number % len(STAGES)]
            yield killed_stage(base, copy, stage, count, rng, wanted)
        for count in parts(kills // 2, IN_A_ROW["repro"]):
            yield killed_repro(new, copy, count, rng, wanted)
    for kind in (kind for kind in KINDS if kind in kinds):
        for stage in drawn([stage for stage in STAGES if folders(stage, base)], some, rng):
            yield obstacle(base, copy, stage, kind, rng, wanted)
    if "damaged file" in kinds:
        for reader, name in drawn([(stage, name) for stage in STAGES for name in stage.reads], some, rng):
            yield changed_file(base, copy, reader, name, rng, wanted)
    if "two at once" in kinds:
        for stage in drawn([stage for stage in STAGES if stage.arguments[0] in ("stages.train", "stages.attack")], some, rng):
            command = ("python", "-m", *stage.arguments)
            yield two_at_once(base, copy, command, stage.writes, wanted)
        yield two_at_once(new, copy, REPRO, (), wanted)


def parts(count: int, most: int) -> list[int]:
    """Numbers of at most `most` that sum to `count`."""
    return [min(most, count - done) for done in range(0, count, most)]


def drawn(choices: list[Any], some: int, rng: random.Random) -> list[Any]:
    return rng.sample(choices, min(some, len(choices))) if some else choices


def as_text(cases: list[Case], seed: int, kills: int) -> str:
    """The table by kind, and every case that went wrong."""
    table = pd.DataFrame(cases, columns=Case._fields)
    lines = ["| fault | tried | one clear line | identical afterwards | seconds each |", "| --- | --- | --- | --- | --- |"]
    for kind, rows in table.groupby("kind", sort=False):
        asked = rows["one_line"].dropna()
        clear = f"{int(asked.sum())} of {len(asked)}" if len(asked) else "-"
        tried = f"{len(rows)} ({kills} kills)" if kind == "kill" else len(rows)
        lines.append(
            f"| {kind} | {tried} | {clear} | {int(rows['identical'].sum())} of {len(rows)} | {rows['seconds'].mean():.0f} |"
        )
    wrong = [f"- {case.kind}: {case.what}: {case.note}" for case in cases if case.note or case.one_line is False]
    about = f"`python -m benchmarks.faults --seed {seed} --kills {kills}`, commit {commit()}."
    text = [
        f"# Faults\n\n{' '.join((__doc__ or '').split())}\n\n{about}",
        "\n".join(lines),
        "## What went wrong",
        "\n".join(wrong or ["Nothing."]),
    ]
    return "\n\n".join(text) + "\n"


def main() -> int:
    chosen = arguments().parse_args()
    kinds = [kind for kind in chosen.kinds if has_namespaces() or kind not in ("disk full", "read-only folder")]
    if left_out := set(chosen.kinds) - set(kinds):
        print(f"this user may not mount: without {', '.join(sorted(left_out))}", file=sys.stderr)
    cases, start = list[Case](), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        place = (chosen.place or Path(temporary)).resolve()
        if not (place / "base/dvc.lock").exists():
            make_place(place / "new")
            copy_place(place / "new", place / "base")
            done(place / "base", "dvc", "repro")
        print(f"undisturbed run: {time.monotonic() - start:.0f} s", file=sys.stderr)
        for case in cases_of(place, kinds, chosen.kills, chosen.some, random.Random(chosen.seed)):
            cases.append(case)
            good = "ok" if not case.note and case.one_line is not False else f"WRONG {case.note}"
            print(f"{case.kind}: {case.what}: {good} ({case.seconds:.0f} s)", file=sys.stderr, flush=True)
            with atomic_path(chosen.out) as path:
                path.write_text(as_text(cases, chosen.seed, chosen.kills), encoding="utf-8")
    return int(any(case.note or case.one_line is False for case in cases))


if __name__ == "__main__":
    sys.exit(main())
