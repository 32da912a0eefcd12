"""The files of the stage tables: metrics/tables, metrics/summary.json, and data/report, which only the page and the cards need."""

import json
from pathlib import Path

import pandas as pd

from pipeline.reporting.hcp.markdown import hcp_table_markdown
from pipeline.reporting.hcp.statistics import hcp_groups, statistics_frame
from pipeline.reporting.hcp.statistics_text import statistics_markdown
from pipeline.reporting.hcp.tables import hcp_tables
from pipeline.reporting.markdown import labels_in_markdown, names_in_markdown, schedule_text
from pipeline.reporting.measurements import load_cost, load_transfer
from pipeline.reporting.outcomes import load_cells
from pipeline.reporting.pcl.cost import cost_markdown, cost_table
from pipeline.reporting.pcl.markdown import cw_text, pcl_table_markdown
from pipeline.reporting.pcl.tables import TABLES, pcl_cells, pcl_table, sweep_table
from pipeline.reporting.published import load_published, paper_rows, published_epochs
from pipeline.reporting.records import check_models, check_transfer
from pipeline.reporting.run import Run
from pipeline.reporting.verdict.breakdown import broken_frame, curves_frame, masking_frame
from pipeline.reporting.verdict.outcomes import first_images, load_headline, load_learnt, load_parts, load_shown, second_versions
from pipeline.reporting.verdict.prototypes import load_prototypes, prototypes_frame
from pipeline.reporting.verdict.status import status_frame, summary, undefended_method, verdict_frame
from pipeline.runtime.sums import write_sums


def write_tables(run: Run, data: Path, metrics: Path) -> None:
    """data: the folder of attacks/, verdict/, transfer/ and cost/."""
    for folder in (metrics / "tables", data / "report"):
        folder.mkdir(parents=True, exist_ok=True)
    check_models(data, datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    if run.transfer:
        check_transfer(data / "transfer", datasets=run.datasets, seeds=run.seeds, sources=run.transfer, methods=[*run.methods])
    cells = load_cells(data / "attacks", datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    transfer = load_transfer(data / "transfer", datasets=run.datasets if run.transfer else (), seeds=run.seeds)
    cost = load_cost(data / "cost", datasets=run.datasets, methods=run.cost) if run.cost else None
    published = load_published()
    write_hcp(run, metrics / "tables", cells, published)
    write_pcl(run, metrics / "tables", cells, transfer, cost, published)
    write_verdict(run, data, metrics)
    for folder in (metrics / "tables", data / "report"):
        write_sums(folder)


def epochs_text(run: Run, published: pd.DataFrame, paper: str) -> str:
    return schedule_text({name: own.epochs for name, own in run.datasets.items()}, published_epochs(published, paper))


def write_hcp(run: Run, out: Path, cells: pd.DataFrame, published: pd.DataFrame) -> None:
    """hcp.csv (tables 1-4), hcp_statistics.csv, and both in hcp.md."""
    paper, schedule = paper_rows(run, "hcp"), epochs_text(run, published, "hcp")
    tables = hcp_tables(cells, paper, published, run.datasets)
    groups = hcp_groups(cells, paper, published, run.datasets, run.compare)
    statistics = statistics_frame(groups, published, run.alpha)
    texts = [hcp_table_markdown(number, labels_in_markdown(table), schedule) for number, table in tables.items()]
    pd.concat(tables.values()).to_csv(out / "hcp.csv", index=False)
    statistics.to_csv(out / "hcp_statistics.csv", index=False)
    labels, names = names_in_markdown(run.labels), names_in_markdown(paper.names)
    (out / "hcp.md").write_text("\n".join([*texts, statistics_markdown(statistics, labels, names)]), encoding="utf-8")


def write_pcl(
    run: Run, out: Path, cells: pd.DataFrame, transfer: pd.DataFrame, cost: pd.DataFrame | None, published: pd.DataFrame
) -> None:
    """pcl.csv (the accuracy tables), cost.csv (table 12), all of them in pcl.md, and what figure 7 is drawn from."""
    paper, schedule = paper_rows(run, "pcl"), epochs_text(run, published, "pcl")
    cw, both = cw_text(run.cw, published), pcl_cells(cells, transfer, paper)
    tables = {number: pcl_table(number, both, paper, published, run.datasets) for number in TABLES}
    texts = {
        number: pcl_table_markdown(number, labels_in_markdown(table), schedule, names_in_markdown(paper.names), cw=cw)
        for number, table in tables.items()
    }
    times = cost_table(cost, paper, published)
    texts[12] = cost_markdown(labels_in_markdown(times))
    pd.concat(tables.values()).to_csv(out / "pcl.csv", index=False)
    times.to_csv(out / "cost.csv", index=False)
    sweep_table(cells, paper, run.datasets).to_csv(out / "pcl_figure7.csv", index=False)
    (out / "pcl.md").write_text("\n".join(text for _, text in sorted(texts.items())), encoding="utf-8")


def write_verdict(run: Run, data: Path, metrics: Path) -> None:
    """verdict.csv, verdict_status.csv, prototypes.csv, curves.csv and summary.json in metrics/; broken.csv, curves.csv and
    masking.csv in data/report; all of the verdict's images alone, which may be fewer than those of the papers' attacks."""
    folder, labels = data / "verdict", run.labels
    cells, verdict = load_headline(run, data, run.seeds)
    shown = load_shown(data / "transfer", first_images(verdict) if run.transfer else {}, run.seeds)
    parts = load_parts(folder, datasets=run.datasets, methods=run.methods, seeds=run.seeds, names=run.parts)
    square = [part for part, attack in run.parts.items() if attack == "square"]
    masking = masking_frame(cells, verdict, parts, shown, folder, datasets=run.datasets, labels=labels, square=square)
    verdicts = verdict_frame(cells, verdict, run.datasets, run.methods)
    learnt = load_learnt(data / "attacks", datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    status = status_frame(verdicts, masking, undefended_method(run.methods), second_versions(parts), learnt)
    verdicts.to_csv(metrics / "tables" / "verdict.csv", index=False)
    read = load_prototypes(folder, datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    prototypes_frame(read, verdicts, labels).to_csv(metrics / "tables" / "prototypes.csv", index=False)
    status.to_csv(metrics / "tables" / "verdict_status.csv", index=False)
    masking.to_csv(data / "report" / "masking.csv", index=False)
    broken_frame(cells, verdict, parts, run.datasets, labels).to_csv(data / "report" / "broken.csv", index=False)
    curves = curves_frame(cells, verdict, labels)
    for folder in (metrics / "tables", data / "report"):  # the first is in git, the second is what the cards depend on
        curves.to_csv(folder / "curves.csv", index=False)
    (metrics / "summary.json").write_text(json.dumps(summary(verdicts), indent=2) + "\n")
