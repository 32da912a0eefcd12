"""Stage tables: data/attacks, data/verdict, data/transfer, data/cost -> metrics/tables, metrics/summary.json, data/report."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """The tables of both papers with published and measured values, the Friedman and Nemenyi tests and the verdict on every method
    (metrics/tables, metrics/summary.json), and what the report and its cards are made from (data/report)."""
    from pipeline.reporting.run import read_run
    from pipeline.reporting.write import write_tables

    write_tables(read_run(Path("data/items/tables.yaml")), Path("data"), Path("metrics"))


if __name__ == "__main__":
    run_stage(main)
