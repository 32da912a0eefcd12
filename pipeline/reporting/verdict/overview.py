"""One picture of it all: what the papers report under their attacks, what their attacks leave here, and what AutoAttack leaves."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.drawing import COLOURS, as_drawn, save, text_figure
from pipeline.reporting.files import read_table
from pipeline.reporting.outcomes import LINF
from pipeline.reporting.published import load_published
from pipeline.reporting.run import Run
from pipeline.reporting.verdict.outcomes import AUTOATTACK
from pipeline.reporting.verdict.status import papers_attack, row_of

ELSEWHERE = "cifar10"  # whose published values stand beside a data set that the papers do not have
TABLES = {"hcp": ("2", "4"), "pcl": ("3",)}


def save_overview(run: Run, tables: Path, out: Path) -> None:
    """out/overview.png: a panel a data set, its methods by what AutoAttack leaves. tables: the folder of verdict.csv."""
    verdicts, published = read_table(tables / "verdict.csv"), strongest_published(load_published())
    verdicts = verdicts.assign(label=verdicts["method"].map(as_drawn(run).labels))
    rows = overview_table(verdicts, published, {name: method.published or "" for name, method in run.methods.items()})
    save(overview_figure(rows, {name: own.headline_eps for name, own in run.datasets.items()}), out / "overview.png")


def strongest_published(published: pd.DataFrame) -> pd.DataFrame:
    """By data set and published method what the strongest l-inf attack of each paper leaves at the largest eps that it reports:
    dataset, key, eps, least and most (the papers may differ)."""
    in_tables = [published["paper"].eq(paper) & published["table"].isin(numbers) for paper, numbers in TABLES.items()]
    rows = published[(in_tables[0] | in_tables[1]) & published["setting"].eq("white-box") & published["attack"].isin(LINF)]
    rows = rows[rows["budget"] == rows.groupby(["dataset", "key"])["budget"].transform("max")]
    by_paper = rows.groupby(["dataset", "key", "budget", "paper"], as_index=False)["value"].min()
    values = by_paper.groupby(["dataset", "key", "budget"])["value"]
    return pd.DataFrame({"least": values.min(), "most": values.max()}).reset_index().rename(columns={"budget": "eps"})


def overview_table(verdicts: pd.DataFrame, published: pd.DataFrame, keys: dict[str, str]) -> pd.DataFrame:
    """verdicts: `verdict_frame`; published: `strongest_published`; keys: the published method by method. A row per data set and
    method that a paper reports under attack, or of which AutoAttack leaves more than chance: dataset, label, measured (the papers'
    strongest attack), autoattack, chance, and least, most, eps and source (the data set) of the published values, nan and "" where
    there are none. Nothing of a data set none of whose methods is published."""
    lines = []
    for (dataset, method), rows in verdicts.groupby(["dataset", "method"], sort=False):
        theirs = published[published["key"] == keys[str(method)]]
        source = dataset if (theirs["dataset"] == dataset).any() else ELSEWHERE
        theirs = theirs[theirs["dataset"] == source]
        strongest, worst = papers_attack(rows), row_of(rows, AUTOATTACK)
        chance = rows["chance"].iloc[0]
        if strongest is None or worst is None or (theirs.empty and worst["measured"] <= chance):
            continue
        values = (strongest["measured"], worst["measured"], chance)
        of_papers = (math.nan, math.nan, math.nan, "") if theirs.empty else (*theirs[["least", "most", "eps"]].iloc[0], source)
        lines.append((dataset, rows["label"].iloc[0], *values, *of_papers))
    columns = ["dataset", "label", "measured", "autoattack", "chance", "least", "most", "eps", "source"]
    table = pd.DataFrame(lines, columns=columns)
    table = table[table.groupby("dataset")["most"].transform("count") > 0]
    return table.sort_values(["dataset", "autoattack", "measured"], kind="stable", ignore_index=True)


def overview_figure(table: pd.DataFrame, eps: dict[str, float]) -> Figure:
    """table: `overview_table`; eps: of the verdict, by data set in the order of the run."""
    panels = [rows for dataset in eps if len(rows := table[table["dataset"] == dataset])]
    if not panels:
        return text_figure("No method of the run is one that the papers report under attack.")
    longest = max(map(len, panels))
    figure = Figure(figsize=(1.5 + 5.2 * len(panels), 1.3 + 0.27 * longest), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, rows in zip(axes, panels, strict=True):
        _panel(ax, rows.reset_index(drop=True), eps[rows["dataset"].iloc[0]])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, eps: float) -> None:
    places, own = rows.index, rows[rows["source"] == rows["dataset"]]
    first = (own if len(own) else rows[rows["source"] != ""]).iloc[0]  # what most are held against; a line of another set says so
    shown = "" if first["source"] == first["dataset"] else f", {first['source']}"
    names = [
        f"{row['label']} ({row['source']}, eps {row['eps']:g})"
        if row["source"] and (row["source"], row["eps"]) != (first["source"], first["eps"])
        else row["label"]
        for _, row in rows.iterrows()
    ]
    ax.hlines(places, rows["autoattack"], rows["most"], color="#DDDDDD", zorder=1)
    ax.hlines(places, rows["least"], rows["most"], color=COLOURS[0], linewidth=2, zorder=2)
    ax.scatter(rows["most"], places, marker="D", facecolor="none", edgecolor=COLOURS[0], zorder=6, label="published")
    ax.scatter(rows["measured"], places, s=60, marker="o", color=COLOURS[1], zorder=4, label="measured, papers' strongest attack")
    ax.scatter(rows["autoattack"], places, s=18, marker="s", color=COLOURS[7], zorder=5, label="measured, AutoAttack")
    ax.axvline(rows["chance"].iloc[0], color="#777777", linestyle=":", linewidth=1)
    ax.set_yticks(places, names, fontsize=9)
    ax.set_xlim(-2, 100)
    ax.set_xlabel("accuracy under attack, % (dotted: chance)")
    ax.set_title(f"{rows['dataset'].iloc[0]}, l-inf eps {eps:g} (published{shown}: eps {first['eps']:g})", fontsize=10)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
