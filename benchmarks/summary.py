"""What the benchmarks have found so far: README.md in each machine's folder of metrics/benchmarks (targets, conditions, tables),
and one above it with the targets of all machines side by side. `python -m benchmarks.summary`."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.plots import attacks_figure, steps_figure
from benchmarks.results import METRICS
from benchmarks.subjects import STEP_LIMITS
from pipeline.reporting.drawing import save
from pipeline.runtime.files import atomic_path

ORDER = ["steps", "training", "attacks", "memory", "floor", "repro", "items", "autoattack", "precision", "cw_steps", "defences"]


def found_in(folder: Path) -> dict[str, Any]:
    """What each benchmark wrote about itself, by its name."""
    return {name: json.loads(path.read_text()) for name in ORDER if (path := folder / f"{name}.json").exists()}


def targets_of(about: Mapping[str, Any]) -> pd.DataFrame:
    """A line per target of all benchmarks of a machine."""
    lines = [
        (name, target["what"], f"{target['value']:.4g}", target["limit"], "met" if target["met"] else "**not met**")
        for name, one in about.items()
        for target in one["targets"]
    ]
    return pd.DataFrame(lines, columns=["benchmark", "target", "measured", "limit", ""])


def machine_page(folder: Path, about: Mapping[str, Any]) -> str:
    """The targets, then where each table is and under which conditions it was made."""
    targets = targets_of(about)
    met = int((targets[""] == "met").sum())
    device = next(iter(about.values()))["conditions"]["device"]
    parts = [f"# {device}", f"{met} of {len(targets)} targets met.", _table(targets)]
    conditions = pd.DataFrame({name: one["conditions"] for name, one in about.items()})
    parts += ["## Measured with", _table(conditions.reset_index(names=""))]
    parts += ["## Tables", "\n".join(f"- [{one['title']}]({name}.md) ({name}.csv: every repeat)" for name, one in about.items())]
    parts += [f"![{plot.stem}]({plot.name})" for plot in sorted(folder.glob("*.png"))]
    return "\n\n".join(parts) + "\n"


def index_page(machines: Mapping[str, Mapping[str, Any]]) -> str:
    """All machines' targets, a column each."""
    columns = {}
    for folder, about in machines.items():
        targets = targets_of(about).set_index(["benchmark", "target"])
        columns[f"[{folder}]({folder}/README.md)"] = targets["measured"] + ", " + targets["limit"] + ": " + targets[""]
    wide = pd.DataFrame(columns).fillna("").reset_index()
    text = "Written by `make bench`; docs/benchmarks.md says what is measured and how. A folder a machine."
    return f"# Benchmarks\n\n{text}\n\n{_table(wide)}\n"


def _table(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)


def write_summary(root: Path) -> None:
    """root: the folder of the machines' folders."""
    machines = {folder.name: found_in(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    machines = {name: about for name, about in machines.items() if about}
    for name, about in machines.items():
        if "steps" in about:
            save(steps_figure(pd.read_csv(root / name / "steps.csv"), STEP_LIMITS), root / name / "steps.png")
        if "attacks" in about:
            save(attacks_figure(pd.read_csv(root / name / "attacks.csv")), root / name / "attacks.png")
        with atomic_path(root / name / "README.md") as path:
            path.write_text(machine_page(root / name, about))
    with atomic_path(root / "README.md") as path:
        path.write_text(index_page(machines))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summary", description=__doc__)
    parser.add_argument("--root", type=Path, default=METRICS, help="default: %(default)s")
    write_summary(parser.parse_args().root)


if __name__ == "__main__":
    main()
