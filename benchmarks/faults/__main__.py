"""What kills, full disks, damaged files and bad input do to a run. The small profile runs once undisturbed. After kills and full
disks the run is repeated, and its results must be those of the undisturbed run, bit by bit. A damaged file, a mistake in
params.yaml or a fault in the images is to be refused in one line, with status 2, within five seconds of the processor and with
nothing touched, or to change nothing."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.faults.bad_data import FAULTS
from benchmarks.faults.bad_params import MISTAKES
from benchmarks.faults.cases import STAGES, Case
from benchmarks.faults.inputs import data_fault, make_inputs, params_mistake
from benchmarks.faults.kills import REPRO, killed_repro, killed_stage, remove, two_at_once
from benchmarks.faults.obstacles import KINDS, changed_file, folders, has_namespaces, obstacle
from benchmarks.faults.place import copy_place, done, make_place, results
from benchmarks.machine import commit
from pipeline.runtime.files import atomic_path

IN_A_ROW = {"stage": 3, "repro": 5}  # kills, before the work is let to its end
ALL = ("kill", *KINDS, "damaged file", "two at once", "params.yaml", "images")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of all that is drawn, one round each (default: 0)")
    parser.add_argument("--kills", type=int, default=50, help="a round, half on stages, half on dvc repro (default: %(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=ALL, default=ALL, metavar="KIND", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--files", type=int, default=100, help="damaged files, in all rounds (default: %(default)s)")
    parser.add_argument("--params", type=int, default=300, help="mistakes in params.yaml, in all rounds (default: %(default)s)")
    parser.add_argument("--images", type=int, default=100, help="faults in images, in all rounds (default: %(default)s)")
    parser.add_argument("--some", type=int, default=0, help="at most so many obstacles of each kind a round; 0: on all stages")
    parser.add_argument("--out", type=Path, default=Path("metrics/faults.md"), help="the table; beside it every case as CSV")
    parser.add_argument("--add", action="store_true", help="to the cases that are there")
    parser.add_argument("--place", type=Path, help="where the profile runs, kept for the next time (default: a temporary folder)")
    return parser


def cases_of(place: Path, chosen: argparse.Namespace, rng: random.Random) -> Iterator[Case]:
    """A round, one case after the other. place: the folder of `new`, where nothing was run, and `base`, where all was."""
    new, base, copy, inputs = place / "new", place / "base", place / "copy", place / "inputs"
    wanted, rounds = results(base), len(chosen.seeds)
    if "params.yaml" in chosen.kinds:
        remove(inputs)
        make_inputs(inputs)
        for number in range(chosen.params // rounds):
            yield params_mistake(inputs, [*MISTAKES][number % len(MISTAKES)], rng)
    if "images" in chosen.kinds:
        forms = [(form, fault) for form, faults in FAULTS.items() for fault in faults]
        for number in range(chosen.images // rounds):
            yield data_fault(copy, *forms[number % len(forms)], rng)
    if "damaged file" in chosen.kinds:
        read = [(stage, name) for stage in STAGES for name in stage.reads]
        for _ in range(chosen.files // rounds):
            yield changed_file(base, copy, *rng.choice(read), rng, wanted)
    if "kill" in chosen.kinds:
        for number, count in enumerate(parts(chosen.kills - chosen.kills // 2, IN_A_ROW["stage"])):
            yield killed_stage(base, copy, STAGES[number % len(STAGES)], count, rng, wanted)
        for count in parts(chosen.kills // 2, IN_A_ROW["repro"]):
            yield killed_repro(new, copy, count, rng, wanted)
    for kind in (kind for kind in KINDS if kind in chosen.kinds):
        for stage in drawn([stage for stage in STAGES if folders(stage, base)], chosen.some, rng):
            yield obstacle(base, copy, stage, kind, rng, wanted)
    if "two at once" in chosen.kinds:
        for stage in drawn(
            [stage for stage in STAGES if stage.arguments[0] in ("stages.train", "stages.attack")], chosen.some, rng
        ):
            command = ("python", "-m", *stage.arguments)
            yield two_at_once(base, copy, command, stage.writes, wanted)
        yield two_at_once(new, copy, REPRO, (), wanted)


def parts(count: int, most: int) -> list[int]:
    """Numbers of at most `most` that sum to `count`."""
    return [min(most, count - done) for done in range(0, count, most)]


def drawn(choices: list[Any], some: int, rng: random.Random) -> list[Any]:
    return rng.sample(choices, min(some, len(choices))) if some else choices


def as_text(table: pd.DataFrame) -> str:
    """The table by kind, and every case that went wrong. table: Case by row, with `round` and `commit`."""
    lines = ["| fault | tried | rounds | refused in one clear line | right afterwards | seconds each |"]
    lines.append("| --- " * 6 + "|")
    for kind, rows in table.groupby("kind", sort=False):
        asked = rows["one_line"].dropna()
        clear = f"{int(asked.sum())} of {len(asked)}" if len(asked) else "-"
        tried = f"{len(rows)} ({rows['kills'].sum()} kills)" if kind == "kill" else len(rows)
        right = f"{int(rows['identical'].sum())} of {len(rows)}"
        lines.append(f"| {kind} | {tried} | {rows['round'].nunique()} | {clear} | {right} | {rows['seconds'].mean():.0f} |")
    wrong = table[(table["note"] != "") | (table["one_line"] == False)]  # noqa: E712, or nothing
    accepted = table[table["kind"].isin(["params.yaml", "images"]) & table["one_line"].isna()]
    text = [
        "# Faults",
        " ".join((__doc__ or "").split()),
        f"Written by `python -m benchmarks.faults`; commits {', '.join(table['commit'].unique())}. A round has a seed of its own.",
        "\n".join(lines),
        "## What went wrong",
        "\n".join(f"- {row.kind}: {row.what}: {row.note}" for row in wrong.itertuples()) or "Nothing.",
        "## Input that was accepted",
        "\n".join(f"- {row.kind}: {row.what}" for row in accepted.itertuples()) or "None.",
    ]
    return "\n\n".join(text) + "\n"


def main() -> int:
    chosen = arguments().parse_args()
    able = [kind for kind in chosen.kinds if has_namespaces() or kind not in ("disk full", "read-only folder")]
    if left_out := set(chosen.kinds) - set(able):
        print(f"this user may not mount: without {', '.join(sorted(left_out))}", file=sys.stderr)
    chosen.kinds, start, cases = able, time.monotonic(), chosen.out.with_suffix(".csv")
    table = pd.read_csv(cases, keep_default_na=False, na_values={"one_line": ""}) if chosen.add else pd.DataFrame()
    with tempfile.TemporaryDirectory() as temporary:
        place = (chosen.place or Path(temporary)).resolve()
        if not (place / "base/dvc.lock").exists():
            make_place(place / "new")
            copy_place(place / "new", place / "base")
            done(place / "base", "dvc", "repro")
        print(f"undisturbed run: {time.monotonic() - start:.0f} s", file=sys.stderr)
        every = ((number, case) for number in chosen.seeds for case in cases_of(place, chosen, random.Random(number)))
        for seed, case in every:
            good = "ok" if not case.note and case.one_line is not False else f"WRONG {case.note}"
            print(f"{case.kind}: {case.what}: {good} ({case.seconds:.0f} s)", file=sys.stderr, flush=True)
            row = pd.DataFrame([{"round": seed, "commit": commit(), **case._asdict()}])
            table = pd.concat([table, row], ignore_index=True)
            with atomic_path(cases) as path:
                table.to_csv(path, index=False)
            with atomic_path(chosen.out) as path:
                path.write_text(as_text(table), encoding="utf-8")
    return int((table["note"] != "").any())


if __name__ == "__main__":
    sys.exit(main())
