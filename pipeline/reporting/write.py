"""The files of metrics/tables: each table as long CSV and as Markdown. Every function takes `cells`, see outcomes.py."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.reporting.breakdown import broken_frame, curves_frame, masking_frame
from pipeline.reporting.judged import load_judged, load_parts
from pipeline.reporting.markdown import hcp_table_markdown
from pipeline.reporting.outcomes import Strengths
from pipeline.reporting.pcl_cost import cost_markdown, cost_table
from pipeline.reporting.pcl_markdown import pcl_table_markdown
from pipeline.reporting.pcl_tables import TABLES, pcl_cells, pcl_table, sweep_table
from pipeline.reporting.statistics import hcp_groups, statistics_frame
from pipeline.reporting.statistics_text import statistics_markdown
from pipeline.reporting.tables import hcp_cells, hcp_tables
from pipeline.reporting.verdict import status_frame, summary, verdict_frame


def write(out: Path, name: str, table: pd.DataFrame, text: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"{name}.csv", index=False)
    (out / f"{name}.md").write_text(text)


def write_hcp(
    out: Path,
    cells: pd.DataFrame,
    published: pd.DataFrame,
    schedule: str,
    *,
    strengths: dict[str, Strengths],
    labels: dict[str, str],
    methods: list[str],
    compare: list[str],
    alpha: float,
) -> None:
    """Tables 1-4 and the statistics of the hcp paper, over `methods`; compare, alpha: of the Friedman and Nemenyi tests."""
    own = hcp_cells(cells, methods, strengths)
    for number, table in hcp_tables(own, published, labels=labels, strengths=strengths).items():
        write(out, f"hcp_table{number}", table, hcp_table_markdown(number, table, schedule))
    statistics = statistics_frame(hcp_groups(own, published, compare, methods), published, alpha)
    write(out, "hcp_statistics", statistics, statistics_markdown(statistics, labels))


def write_pcl(
    out: Path,
    cells: pd.DataFrame,
    transfer: pd.DataFrame,
    published: pd.DataFrame,
    schedule: str,
    *,
    strengths: dict[str, Strengths],
    labels: dict[str, str],
    methods: list[str],
    cw: str,
) -> None:
    """The accuracy tables of the pcl paper; methods: run.pcl; cw: `cw_text`."""
    own = pcl_cells(cells, transfer)
    for number in TABLES:
        table = pcl_table(number, own, published, strengths=strengths, labels=labels, own=methods)
        write(out, f"pcl_table{number}", table, pcl_table_markdown(number, table, schedule, labels, cw=cw))


def write_cost(out: Path, cost: pd.DataFrame, published: pd.DataFrame, *, labels: dict[str, str]) -> None:
    table = cost_table(cost, published, labels=labels)
    write(out, "pcl_table12", table, cost_markdown(table))


def write_sweep(out: Path, cells: pd.DataFrame, *, sweep: dict[str, list[float]], labels: dict[str, str]) -> None:
    """What pcl figure 7 is drawn from."""
    sweep_table(cells, sweep=sweep, labels=labels).to_csv(out / "pcl_figure7.csv", index=False)


def write_verdict(
    out: Path,
    cells: pd.DataFrame,
    transfer: pd.DataFrame,
    *,
    data: Path,
    chosen: dict[str, list[Any]],
    strengths: dict[str, Strengths],
    labels: dict[str, str],
    parts: dict[str, str],
) -> None:
    """verdict.csv, verdict_status.csv, broken.csv, curves.csv and masking.csv in `out`, and summary.json beside it. data: the
    folder of attacks/ and verdict/; chosen: datasets, methods and seeds; parts: of AutoAttack, which attack each is."""
    judged = load_judged(data / "attacks", data / "verdict", strengths=strengths, **chosen)
    of_parts = load_parts(data / "verdict", names=list(parts), **chosen)
    square = [part for part, attack in parts.items() if attack == "square"]
    masking = masking_frame(cells, judged, of_parts, transfer, data / "verdict", strengths=strengths, labels=labels, square=square)
    verdicts = verdict_frame(cells, judged, strengths, labels)
    tables = {
        "verdict": verdicts,
        "verdict_status": status_frame(verdicts, masking),
        "broken": broken_frame(cells, judged, of_parts, strengths, labels),
        "curves": curves_frame(cells, judged, labels),
        "masking": masking,
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    (out.parent / "summary.json").write_text(json.dumps(summary(verdicts), indent=2) + "\n")
