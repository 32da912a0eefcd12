"""Stage tables: data/attacks -> metrics/tables, metrics/summary.json."""

import json
from pathlib import Path

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.reporting.markdown import hcp_table_markdown, schedule_text
from pipeline.reporting.outcomes import load_cells
from pipeline.reporting.published import load_published, published_epochs
from pipeline.reporting.statistics import hcp_groups, statistics_frame
from pipeline.reporting.statistics_text import statistics_markdown
from pipeline.reporting.tables import hcp_tables, summary


def main() -> None:
    """The hcp paper's tables with published and measured values (metrics/tables, CSV and Markdown), the Friedman and Nemenyi tests,
    and metrics/summary.json, from the outcomes in data/attacks."""
    params = load_params()
    run, labels, out = params.run, params.labels, Path("metrics/tables")
    headline_eps = {name: params.datasets[name].headline_eps for name in run.datasets}
    epochs = {name: params.datasets[name].training.epochs for name in run.datasets}
    published = load_published()
    schedule = schedule_text(epochs, published_epochs(published))
    cells = load_cells(Path("data/attacks"), datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    out.mkdir(parents=True, exist_ok=True)
    for number, table in hcp_tables(cells, published, labels=labels, headline_eps=headline_eps).items():
        table.to_csv(out / f"hcp_table{number}.csv", index=False)
        (out / f"hcp_table{number}.md").write_text(hcp_table_markdown(number, table, schedule))
    groups = hcp_groups(cells, published, params.statistics.compare, run.methods)
    statistics = statistics_frame(groups, published, params.statistics.alpha)
    statistics.to_csv(out / "hcp_statistics.csv", index=False)
    (out / "hcp_statistics.md").write_text(statistics_markdown(statistics, labels))
    Path("metrics/summary.json").write_text(json.dumps(summary(cells, headline_eps=headline_eps), indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
