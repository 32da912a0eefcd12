"""Stage figures: data/attacks, data/planes, metrics/tables -> metrics/figures."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """The figures of both papers, the critical difference diagram, and published against measured (metrics/figures), from
    data/attacks, data/planes and metrics/tables."""
    from pipeline.reporting.hcp.figures import save_hcp_figures
    from pipeline.reporting.pcl.figures import save_pcl_figures
    from pipeline.reporting.run import read_run
    from pipeline.reporting.verdict.overview import save_overview

    run, tables, out = read_run(Path("data/items/figures.yaml")), Path("metrics/tables"), Path("metrics/figures")
    save_overview(run, tables, out)
    save_hcp_figures(run, Path("data/attacks"), tables, out)
    save_pcl_figures(run, Path("data"), tables, out)


if __name__ == "__main__":
    run_stage(main)
