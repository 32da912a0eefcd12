"""Where a benchmark's results go: a table as CSV and as Markdown, and what it ran on and aimed at as JSON."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from benchmarks.machine import conditions, folder_name
from benchmarks.measure import Size, add_sizes, fill_sizes
from pipeline.runtime.device import set_up_device
from pipeline.runtime.files import atomic_path

METRICS = Path("metrics/benchmarks")
QUICK = Path(".ckpt/bench/quick")  # what --quick measures is no result


class Target(NamedTuple):
    """`value` is to be at most `most`, or at least `least`; the other is None."""

    what: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        return bool((self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least))

    @property
    def limit(self) -> str:
        return f"at most {self.most:.4g}" if self.most is not None else f"at least {self.least:.4g}"


class Report(NamedTuple):
    """What one benchmark found. rows: all of it; tables: what a reader sees, by heading; notes: how to read them."""

    name: str
    title: str
    rows: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    notes: Sequence[str]
    targets: Sequence[Target]


def parse(
    parser: argparse.ArgumentParser, sizes: Mapping[str, Size], *, threads: int = 0
) -> tuple[argparse.Namespace, torch.device]:
    """The parser's own options and those that all benchmarks share -> what was chosen, and the device, set up. threads: where none
    are asked for, 0 for as many as there are cores."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: the GPU where there is one")
    parser.add_argument("--threads", type=int, default=threads, help=f"of torch, 0: one a core (default: {threads})")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; writes below .ckpt/bench/quick")
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {METRICS}/DEVICE)")
    add_sizes(parser, sizes)
    chosen = parser.parse_args()
    device = set_up_device(chosen.device, chosen.threads)
    fill_sizes(chosen, sizes, device)
    chosen.out = chosen.out or (QUICK if chosen.quick else METRICS) / folder_name(device)
    return chosen, device


def run_main(main: Callable[[], None]) -> None:
    """A ValueError or OSError, which is how the library reports what the user can mend, becomes one line on stderr."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def start(chosen: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """What is known before the first measurement: conditions and settings."""
    hidden = ("device", "threads", "quick", "out")
    return {
        "conditions": conditions(device),
        "settings": {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items() if name not in hidden
        },
    }


def write(report: Report, folder: Path, known: Mapping[str, Any]) -> str:
    """NAME.csv, NAME.md and NAME.json in `folder`, each whole -> what NAME.md says."""
    text = markdown(report, known)
    targets = [{"what": t.what, "value": float(t.value), "limit": t.limit, "met": t.met} for t in report.targets]
    about = {"title": report.title, **known, "targets": targets}
    with atomic_path(folder / f"{report.name}.csv") as path:
        report.rows.to_csv(path, index=False, float_format="%.6g")
    with atomic_path(folder / f"{report.name}.json") as path:
        path.write_text(json.dumps(about, indent=1) + "\n")
    with atomic_path(folder / f"{report.name}.md") as path:
        path.write_text(text)
    return text


def markdown(report: Report, known: Mapping[str, Any]) -> str:
    parts = [f"# {report.title}"]
    for heading, table in report.tables.items():
        parts += [f"## {heading}"] if heading else []
        parts.append(table.to_markdown(index=False, disable_numparse=True))
    if report.targets:
        parts += ["## Targets", target_table(report.targets).to_markdown(index=False, disable_numparse=True)]
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    parts.append(sentence(known))
    return "\n\n".join(parts) + "\n"


def target_table(targets: Sequence[Target]) -> pd.DataFrame:
    rows = [(t.what, f"{t.value:.4g}", t.limit, "met" if t.met else "**not met**") for t in targets]
    return pd.DataFrame(rows, columns=["target", "measured", "limit", ""])


def sentence(known: Mapping[str, Any]) -> str:
    """Conditions and settings in one paragraph."""
    pairs = [*known["conditions"].items(), *known["settings"].items()]
    return f"Measured with {'; '.join(f'{name}: {value}' for name, value in pairs)}."
