"""Runs side by side: revisions and experiments by what differs, and two runs image by image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from pipeline.reporting.files import read_rows
from pipeline.reporting.verdict.outcomes import ADAPTIVE_SUITE, AUTOATTACK

SHOWN = (".clean", ".robust")  # of metrics/summary.json
ATTACKS = ("clean", AUTOATTACK, ADAPTIVE_SUITE)
LONGEST = 24  # characters of a value
LEVEL = 0.05  # of a difference, after Holm's correction


def revisions_table(rows: Sequence[Mapping[str, Any]], params: Sequence[str], width: int) -> tuple[pd.DataFrame, int, int]:
    """rows: of `dvc.api.exp_show`, one a revision; params: the first keys of params.yaml. Returns a row a revision with the params
    that differ, in half of `width` characters at most, and the clean and robust accuracies that differ, those that differ most
    first, as many as fit; and how many params and accuracies do not fit. Experiments come last, the best by the first accuracy
    first."""
    table = pd.DataFrame(rows)
    is_experiment = table["Experiment"].notna()
    shown = pd.DataFrame({"revision": table["Experiment"].where(is_experiment, table["rev"])})
    is_param = table.columns.str.partition(".").get_level_values(0).isin(params)
    values = table.loc[:, is_param].map(lambda value: str(value)[:LONGEST])
    accuracies = table.loc[:, ~is_param & table.columns.str.endswith(SHOWN)].apply(
        pd.to_numeric, errors="coerce"
    )  # None: not there
    spread = (accuracies.max() - accuracies.min()).sort_values(ascending=False, kind="stable")
    differing = list(spread[spread > 0].index)
    if differing:
        keys = pd.DataFrame({"experiment": is_experiment, "best": -accuracies[differing[0]].where(is_experiment, 0)})
        shown = shown.loc[keys.sort_values(["experiment", "best"], kind="stable").index]
    shown, params_left = _fitting(shown, values.loc[:, values.nunique() > 1], width // 2)
    shown, accuracies_left = _fitting(shown, accuracies[differing], width)
    return shown.reset_index(drop=True), params_left, accuracies_left


def _fitting(shown: pd.DataFrame, further: pd.DataFrame, width: int) -> tuple[pd.DataFrame, int]:
    """`shown` with as many columns of `further` as fit, and how many do not."""
    for number, name in enumerate(further.columns):
        wider = shown.assign(**{str(name): further[name]})
        if len(wider.to_markdown(index=False, tablefmt="simple").splitlines()[1]) > width:
            return shown, further.shape[1] - number
        shown = wider
    return shown, 0


def paired_table(first: Path, second: Path) -> pd.DataFrame:
    """first, second: folders of two runs, with data/verdict. A row per model that both have, and attack: accuracies in %, how many
    images only one of the two has right, the p value of McNemar's exact test after Holm's correction over the rows that differ at
    all, and how far seeds of the method lie apart within a run, where there are several. Raises ValueError where there is nothing
    to compare, or the test images differ."""
    pattern = "data/verdict/*/*/*/outcomes.parquet"
    for run in (first, second):
        if not (run / "data/verdict").is_dir():
            raise ValueError(f"{run} has no data/verdict: name the folder that has data/ in it, as the pipeline writes it")
    files = [{path.relative_to(run): path for path in sorted(run.glob(pattern))} for run in (first, second)]
    both = [path for path in files[0] if path in files[1]]
    if not both:
        raise ValueError(f"{first} and {second} have no model in common in data/verdict; run `dvc repro` or `dvc pull` in both")
    lines = [line for path in both for line in _paired(path, files[0][path], files[1][path])]
    columns = ["dataset", "method", "seed", "attack", "first", "second", "only first", "only second", "p"]
    table = pd.DataFrame(lines, columns=columns)
    apart = table["only first"] + table["only second"] > 0  # two equal rows are no test: their p can only be 1
    if apart.any():
        table.loc[apart, "p"] = multipletests(table.loc[apart, "p"], method="holm")[1]
    values = table.groupby(["dataset", "method", "attack"])[["first", "second"]]
    seeds = (values.max() - values.min()).max(axis=1)
    counts = table.groupby(["dataset", "method", "attack"])["seed"].nunique()
    keys = list(zip(table["dataset"], table["method"], table["attack"], strict=True))
    table["between seeds"] = [seeds[key] if counts[key] > 1 else None for key in keys]
    return table


def _paired(name: Path, *files: Path) -> list[tuple[Any, ...]]:
    dataset, method, seed = name.parts[-4:-1]
    runs = [read_rows(file, ["image", "label", "attack", "eps", "correct"]).set_index("image") for file in files]
    lines = []
    for attack in ATTACKS:
        one, other = (rows[rows["attack"] == attack].sort_index() for rows in runs)
        eps = [rows["eps"].max() for rows in (one, other)]
        if eps[0] != eps[1]:
            found = [f"{attack} at eps {value:g}" if pd.notna(value) else f"no {attack}" for value in eps]
            raise ValueError(f"{files[0]} has {found[0]}, {files[1]} {found[1]}: run both with the same `evaluation.headline`")
        if not one["label"].equals(other["label"]):
            raise ValueError(f"{files[0]} and {files[1]} are of different test images, which cannot be compared one by one")
        only = int((one["correct"] & ~other["correct"]).sum()), int((~one["correct"] & other["correct"]).sum())
        p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        lines.append((dataset, method, int(seed), attack, 100 * one["correct"].mean(), 100 * other["correct"].mean(), *only, p))
    return lines


def verdict_on(row: pd.Series) -> str:
    """row: of `paired_table`."""
    if row["p"] >= LEVEL:
        return "no difference beyond chance"
    if pd.isna(row["between seeds"]):
        return "differs on these images; spread between seeds unknown"
    if abs(row["first"] - row["second"]) <= row["between seeds"]:
        return "within the spread between seeds"
    return "differs"


def revisions_text(rows: Sequence[Mapping[str, Any]], params: Sequence[str], *, width: int, style: str) -> str:
    """As `revisions_table`, to be printed. style: of tabulate."""
    table, params_left, accuracies_left = revisions_table(rows, params, width)
    text = table.to_markdown(index=False, tablefmt=style)
    if params_left or accuracies_left:
        text += f"\n\nBesides, {params_left} params and {accuracies_left} accuracies differ: dvc params diff, dvc metrics diff."
    return f'{text}\n\nIs a difference larger than chance, and than the seed spread? make compare RUNS="A B", docs/experiments.md.'


def paired_text(first: Path, second: Path, *, everything: bool, style: str) -> str:
    """As `paired_table`, to be printed; without `everything` only what differs. style: of tabulate."""
    table = paired_table(first, second)
    table["verdict"] = table.apply(verdict_on, axis=1)
    shown = table if everything else table[table["p"] < LEVEL]
    text = f"{len(table)} pairs of accuracies, {int((table['p'] < LEVEL).sum())} of them apart by more than chance."
    if shown.empty:
        return text
    rounded = shown.round({"first": 1, "second": 1, "between seeds": 1})
    rounded["p"] = ["below 0.0001" if p < 0.0001 else f"{p:.4f}" for p in shown["p"]]
    rounded["between seeds"] = rounded["between seeds"].map(lambda points: "one seed" if pd.isna(points) else points)
    names = {"first": "A, %", "second": "B, %", "only first": "only A", "only second": "only B"}
    legend = (
        f"A: {first}, B: {second}. Only A, only B: images that one of the two has right. p: McNemar's exact test, Holm's "
        "correction. Between seeds: how many points the seeds of a run lie apart."
    )
    if shown["between seeds"].isna().any():
        legend += " One seed: with more in run.seeds, in both, it would be known whether another seed gives as much."
    return f"{rounded.rename(columns=names).to_markdown(index=False, tablefmt=style)}\n\n{legend}\n\n{text}"
