"""How much of the two papers is measured: each of their figures, and what the runs in this repository have beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from pipeline.reporting.files import read_table
from pipeline.reporting.markdown import markdown_table
from pipeline.reporting.outcomes import CW, LINF
from pipeline.reporting.pcl.cost import EPOCHS, RATIO, SECONDS, published_cost
from pipeline.reporting.pcl.tables import ADAPTIVE_SETTING, TABLES, WHITE_BOX
from pipeline.reporting.published import hcp_published, pcl_published
from pipeline.reporting.run import Run
from pipeline.reporting.tables import interval

FIGURE = ["paper", "table", "dataset", "setting", "key", "attack", "eps", "metric"]
MEASUREMENT = ["dataset", "setting", "key", "attack", "eps", "metric"]  # which several tables may print
POINTS = 5.0  # of accuracy
SHARE = 0.25  # of the published value, for all else
SEEDS, GPUS = 5, (1, 8, 64, 512)
UNDEFENDED = "softmax_fs"
COST_SET = "cifar10"  # of pcl table 12
Needs = Mapping[str, Mapping[str, tuple[float, float, int, int]]]
PLAIN: dict[str, str | float] = {"setting": WHITE_BOX, "attack": "clean", "eps": 0.0}
STATUSES = {  # in the order of the columns
    "reproduced": "reproduced",
    "different": "different",
    "reduced_near": "reduced schedule, within the tolerance",
    "reduced_far": "reduced schedule, outside it",
    "not_run": "not run",
}


class Measured(NamedTuple):
    """A run by its params.yaml; its tables are in metrics/tables once it has been run. By data set, training: what it trains with;
    sources: the networks whose images are shown to the others; changes: (method, another one, in which entry their recipes differ).
    reduced: (paper, data set) of which it has fewer images or epochs than the paper, or another network."""

    name: str
    metrics: Path
    run: Run
    training: dict[str, str]
    sources: dict[str, str]
    changes: Mapping[str, Sequence[tuple[str, str, str]]]
    reduced: set[tuple[str, str]]

    @property
    def tables(self) -> Path:
        return self.metrics / "tables"


def figures(published: pd.DataFrame) -> pd.DataFrame:
    """FIGURE and `published`, a row for every figure of a table of either paper. Seconds of pcl table 12 are given as multiples of
    cross entropy's, which is what another machine can be held to."""
    parts = [hcp_published(published, number).assign(paper="hcp", table=number, setting=WHITE_BOX) for number in range(1, 5)]
    for number in TABLES:
        rows = pcl_published(published, number)
        if number == 4:  # which repeats some of table 3
            rows = rows[(rows["setting"] == ADAPTIVE_SETTING) | (rows["attack"] == "clean")]
        parts.append(rows.assign(paper="pcl", table=number))
    cost = published_cost(published)
    cost = cost[cost["metric"] != SECONDS].assign(
        paper="pcl", table=12, dataset=COST_SET, setting=WHITE_BOX, attack="clean", eps=0.0
    )
    found = pd.concat([*parts, cost], ignore_index=True)[[*FIGURE, "published"]]
    return found.assign(eps=found["eps"].round(6))


def measured(run: Measured) -> pd.DataFrame:
    """FIGURE, `measured` and its interval, and of how many images it is: what the run has beside a published figure."""
    if not run.tables.is_dir():
        return pd.DataFrame(columns=[*FIGURE, "measured", "images", "low", "high"])
    hcp = read_table(run.tables / "hcp.csv").assign(paper="hcp", setting=WHITE_BOX)
    pcl = read_table(run.tables / "pcl.csv").assign(paper="pcl")
    cost = read_table(run.tables / "cost.csv").assign(paper="pcl", table=12, **PLAIN)
    cost = cost[(cost["dataset"] == COST_SET) & cost["metric"].isin([RATIO, EPOCHS])]
    cost = cost.rename(columns={"low": "ci95_low", "high": "ci95_high"}).assign(seeds=1, seed_std=0.0)
    rows = pd.concat([hcp, pcl, cost], ignore_index=True)
    rows = rows[rows["measured"].notna() & rows["published"].notna()].reset_index(drop=True)
    ends = pd.DataFrame([interval(row) for _, row in rows.iterrows()], columns=["low", "high"], dtype=float)
    return rows.reindex(columns=[*FIGURE, "measured", "images"]).join(ends).assign(eps=rows["eps"].round(6))


def coverage(published: pd.DataFrame, runs: Sequence[Measured]) -> pd.DataFrame:
    """`figures` with measured, low, high, run and status. What several runs have is taken from one at the paper's schedule where
    there is one, else from the first."""
    wanted = figures(published)
    rows = [
        own.assign(run=run.name, reduced=[pair in run.reduced for pair in zip(own["paper"], own["dataset"], strict=True)])
        for run in runs
        for own in [measured(run)]
    ]
    found = pd.concat(rows, ignore_index=True).sort_values("reduced", kind="stable").drop_duplicates(FIGURE)
    table = wanted.merge(found, how="left", on=FIGURE, validate="one_to_one")
    return table.assign(status=[_status(row) for _, row in table.iterrows()])


def _status(row: pd.Series) -> str:
    if pd.isna(row["measured"]):
        return "not_run"
    tolerance = POINTS if row["metric"] == "accuracy" else SHARE * row["published"]
    low, high = (row["measured"] if pd.isna(row[end]) else row[end] for end in ("low", "high"))
    near = low - tolerance <= row["published"] <= high + tolerance
    if row["reduced"]:
        return "reduced_near" if near else "reduced_far"
    return "reproduced" if near else "different"


def _widest(images: int) -> float:
    """Points from the middle to the end of the 95 % interval of an accuracy of 50 %."""
    return float(100 * proportion_confint(images / 2, images, method="wilson")[1] - 50)


def apart(published: pd.DataFrame) -> pd.Series:
    """By how many points the two papers differ where both print the accuracy of one method on one set under one attack."""
    rows = figures(published)
    rows = rows[(rows["metric"] == "accuracy") & (rows["setting"] == WHITE_BOX)]
    by_paper = rows.pivot_table(index=["dataset", "key", "attack", "eps"], columns="paper", values="published", aggfunc="mean")
    return (by_paper["hcp"] - by_paper["pcl"]).abs().dropna()


def coverage_markdown(published: pd.DataFrame, runs: Sequence[Measured], rest: Needs, many: Needs, machine: str) -> str:
    """rest: by paper and data set what one seed takes on a GPU of `machine`, a folder of metrics/benchmarks: hours, those of the
    longest row of items that need each other, bytes, items; many: the same of SEEDS seeds."""
    table, difference = coverage(published, runs), apart(published)
    counts = table.groupby(["paper", "table", "dataset"], sort=False)["status"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=list(STATUSES), fill_value=0)
    total = counts.sum()
    lines = counts.assign(figures=counts.sum(axis=1)).reset_index()
    closing = pd.DataFrame([{"paper": "both", "table": "all", "dataset": "all", "figures": len(table), **total}])
    lines = pd.concat([lines, closing], ignore_index=True)[["paper", "table", "dataset", "figures", *STATUSES]]
    reduced = sorted(set(table.loc[table["status"].str.startswith("reduced"), "run"]))
    undefended = int((difference.index.get_level_values("key") == UNDEFENDED).sum())
    counted = sorted({int(images) for images in table["images"].dropna()})
    widest = ": the interval adds up to " + ", ".join(f"{_widest(n):.1f} points on {n} images" for n in counted) if counted else ""
    lacking = not_here(table, runs)
    parts = [
        f"# What is reproduced of {len(table)} figures",
        "Written by `python -m stages.coverage` from the tables of the runs.",
        f"At a paper's own schedule {total['reproduced']} figures are reproduced and {total['different']} are different. At a "
        f"reduced schedule {total['reduced_near']} are within the tolerance and {total['reduced_far']} outside it. "
        f"{total['not_run']} were not run, {table['key'].isin(lacking).sum()} of them of a method that is not here "
        f"({', '.join(lacking)}).",
        f"**Tolerance.** An accuracy is reproduced if the published one is within {POINTS:g} points of the measured one's 95 % "
        f"interval. The two papers both print {len(difference)} accuracies of one method on one set under one attack, "
        f"{undefended} of them of the undefended model, and differ there by {difference.median():.1f} points (median), "
        f"{difference.quantile(0.75):.1f} (upper quartile) and {difference.max():.1f} at most: a rough guide to what another "
        f"implementation changes. Few images make agreement easier{widest}. All else (norms of noise, times as multiples of cross "
        f"entropy's, epochs) has to be within {SHARE:.0%}.",
        distinct_text(table),
        "**Reduced schedule**: fewer training images or epochs than the paper, or another network than the paper's profile; "
        + (f"so {', '.join(f'`{name}`' for name in reduced)}, whose report says which. " if reduced else "none so far. ")
        + "What else is smaller there, test images, steps of C&W and of PGD in training, the source network, is in "
        "[REPRODUCTION.md](../REPRODUCTION.md#what-was-run) and in the reports.",
        markdown_table(lines.rename(columns=STATUSES)),
        "## What agrees, by kind of figure",
        kinds_table(table),
        "## What the rest takes",
        "`make repro PROFILE=hcp` and `make repro PROFILE=pcl`: work as `make plan` counts it, at the speed of training on one GPU "
        f"in `metrics/benchmarks/{machine}`. A gradient at the image counts as two thirds of a training step, a forward as a "
        "third, a network that was not timed (VGG-19) as the slowest. That speed is of bf16; attacks in fp32 may take longer. "
        "One seed, all methods and attacks of the profile.",
        rest_table(rest),
        f"Both papers with {SEEDS} seeds on many GPUs, one item per GPU. No schedule is faster than the work shared evenly, or "
        "than the critical path; one that never idles a GPU while an item is ready takes at most their sum. "
        "[docs/parallel.md](../docs/parallel.md#many-items) says what DVC takes for so many items, and what to do about it.",
        many_gpus(many, max(need[1] for by_set in rest.values() for need in by_set.values())),
    ]
    return "\n\n".join(parts) + "\n"


def not_here(table: pd.DataFrame, runs: Sequence[Measured]) -> list[str]:
    """table: `coverage`. Published methods that no run has."""
    known = {own.published for one in runs for group in (one.run.sources, one.run.methods) for own in group.values()}
    return sorted(set(table["key"]) - known)


def distinct_text(table: pd.DataFrame) -> str:
    """table: `coverage`. Some figures stand in several tables."""
    by_model = table.drop_duplicates(MEASUREMENT)
    taken = by_model["measured"].notna()
    return (
        f"The papers print some figures in several tables, and some by both papers: the {len(table)} are {len(by_model)} "
        f"measurements, of which {taken.sum()} were made."
    )


def kinds_table(table: pd.DataFrame) -> str:
    """table: `coverage`. Of the measured figures, how many are within the tolerance: agreement on clean accuracy says nothing of a
    defence."""
    rows = table[table["measured"].notna()]
    linf = (rows["setting"] == WHITE_BOX) & rows["attack"].isin(LINF)
    defended, of_papers = linf & (rows["key"] != UNDEFENDED), rows["key"].str.startswith(("hcp", "pcl"))
    adversarial = rows["key"].str.contains("_at")
    largest = rows["eps"] == rows["eps"].where(defended).groupby([rows["paper"], rows["dataset"]]).transform("max")
    kinds = {
        "clean": (rows["attack"] == "clean") & (rows["metric"] == "accuracy"),
        "FGSM, BIM, MIM, PGD, the undefended model": linf & (rows["key"] == UNDEFENDED),
        "FGSM, BIM, MIM, PGD, HCP and PCL": defended & of_papers & ~adversarial,
        "FGSM, BIM, MIM, PGD, HCP and PCL with adversarial training": defended & of_papers & adversarial,
        "FGSM, BIM, MIM, PGD, other defences": defended & ~of_papers,
        "of all defences, at the largest eps that the paper has for the data set": defended & largest,
        "C&W": (rows["setting"] == WHITE_BOX) & (rows["attack"] == CW),
        "attacks that know the prototypes": rows["setting"] == ADAPTIVE_SETTING,
        "images from another model": rows["setting"].str.startswith("from "),
        "norm of noise": rows["metric"] == "mse",
    }
    near = rows["status"].isin(("reproduced", "reduced_near"))
    lines = [
        {
            **{"figures": name, "measured": int(kind.sum()), "within the tolerance": int((kind & near).sum())},
            "measurements": len(rows[kind].drop_duplicates(MEASUREMENT)),
        }
        for name, kind in kinds.items()
    ]
    return markdown_table(pd.DataFrame(lines))


def rest_table(rest: Needs) -> str:
    lines = [
        {
            **{"profile": paper, "data set": dataset, "GPU-hours": f"{hours:.1f}", "critical path, h": f"{chain:.1f}"},
            **{"disk, GB": f"{disk / 1e9:.1f}", "items": items},
        }
        for paper, by_set in rest.items()
        for dataset, (hours, chain, disk, items) in by_set.items()
    ]
    return markdown_table(pd.DataFrame(lines))


def many_gpus(many: Needs, chain: float) -> str:
    """chain: hours of the longest row of items that need each other."""
    every = [need for by_set in many.values() for need in by_set.values()]
    work, disk, items = (sum(need[place] for need in every) for place in (0, 2, 3))
    lines = [
        {
            **{"GPUs": gpus, "at least, h": f"{max(work / gpus, chain):.1f}", "at most, h": f"{work / gpus + chain:.1f}"},
            **{"busy": f"{work / gpus / (work / gpus + chain):.0%} or more", "disk, GB": f"{disk / 1e9:.0f}", "items": items},
        }
        for gpus in GPUS
    ]
    return markdown_table(pd.DataFrame(lines))
