"""python -m stages.coverage: metrics/coverage.md, how much of the papers is measured; no DVC stage."""

import argparse
from pathlib import Path

from pipeline.runtime.cli import one_line_errors

MACHINE = "nvidia-h200"  # a folder of metrics/benchmarks


def main() -> None:
    """Writes metrics/coverage.md: every figure of both papers by table and data set, reproduced or not, from the tables of the
    profiles that have been run, and what those take that have not."""
    argparse.ArgumentParser(prog="python -m stages.coverage", description=main.__doc__).parse_args()
    with one_line_errors():
        path = Path(__file__).parents[1] / "metrics/coverage.md"
        path.write_text(coverage_text(path.parents[1]), encoding="utf-8")


def coverage_text(root: Path) -> str:
    from pipeline.jobs.full_runs import method_keys, needs, read_speeds, reduced_sets
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.schema import load_params
    from pipeline.reporting.coverage import Measured, coverage_markdown
    from pipeline.reporting.published import load_published, published_epochs

    published, speeds = load_published(), read_speeds(root / "metrics/benchmarks" / MACHINE)
    schedules = {paper: published_epochs(published, paper) for paper in ("hcp", "pcl")}
    profiles = {path.parent: load_params(path, LOOKUPS) for path in sorted(root.glob("profiles/*/params.yaml"))}
    runs = [
        Measured(folder.name, folder / "metrics/tables", reduced_sets(params, schedules), method_keys(params))
        for folder, params in profiles.items()
    ]
    rest = {paper: needs(profiles[root / "profiles" / paper], speeds) for paper in schedules}
    return coverage_markdown(published, runs, rest, MACHINE)


if __name__ == "__main__":
    main()
