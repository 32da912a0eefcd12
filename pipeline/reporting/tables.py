"""Tables in long form: one row per data set, method, attack and eps, published and measured side by side. What the tables of both
papers share."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from pipeline.reporting.outcomes import CW, LINF, NOISE, in_order
from pipeline.reporting.published import Paper
from pipeline.reporting.run import Dataset

CELL = ["dataset", "method", "attack", "eps"]


def accuracy_rows(cells: pd.DataFrame, keys: list[str] = CELL) -> pd.DataFrame:
    """Accuracy in %, mean over seeds, with its 95 % Wilson interval.

    The interval is that of one seed's images at the mean accuracy: every seed is tested on the same images, so seeds add no images.
    How much the seeds differ is `seed_std`, which is empty for one seed.
    """
    rows = cells.groupby(keys, sort=False).agg(
        measured=("accuracy", "mean"), images=("images", "first"), seeds=("seed", "size"), seed_std=("accuracy", "std")
    )
    low, high = proportion_confint(rows["measured"] / 100.0 * rows["images"], rows["images"], alpha=0.05, method="wilson")
    return rows.assign(metric="accuracy", ci95_low=100.0 * low, ci95_high=100.0 * high, std=np.nan).reset_index()


def interval(row: pd.Series) -> tuple[float, float]:
    """The 95 % interval of a row, widened by that of the mean over seeds (Student's t): other seeds would have another mean."""
    seeds = row["seeds"]
    spread = t.ppf(0.975, seeds - 1) * row["seed_std"] / seeds**0.5 if seeds > 1 else 0.0
    return row["ci95_low"] - spread, row["ci95_high"] + spread


def at_strengths(cells: pd.DataFrame, printed: pd.DataFrame, datasets: dict[str, Dataset], *, every: bool) -> pd.Series:
    """Which rows are clean or attacked as a table of a paper shows it. printed: that table, with dataset, attack and eps. An attack
    has the strengths that the table has for it on the data set; one without a column there those of the other l-inf attacks. On a
    data set that the table lacks it has all measured ones (`every`) or table_eps and table_c."""

    def strengths(dataset: str, attack: str) -> list[float]:
        there = printed[(printed["dataset"] == dataset) & printed["attack"].isin((CW,) if attack == CW else LINF)]
        same = there[there["attack"] == attack]
        if len(there):
            return list((same if len(same) else there)["eps"])
        own = datasets[dataset]
        if every:
            return own.c if attack == CW else own.eps
        return [own.table_c if attack == CW else own.table_eps]

    def shown(dataset: str, attack: str, eps: float) -> bool:
        if attack == "clean" or attack.startswith(NOISE):
            return attack == "clean"
        return any(abs(eps - strength) < 1e-6 for strength in strengths(dataset, attack))

    return _rows(cells, {place: shown(*place) for place in _places(cells)})


def at_headline(cells: pd.DataFrame, datasets: dict[str, Dataset]) -> pd.Series:
    """Which rows are clean or attacked at the strength of the verdict; C&W at table_c; noise is not."""

    def shown(dataset: str, attack: str, eps: float) -> bool:
        if attack == "clean" or attack.startswith(NOISE):
            return attack == "clean"
        own = datasets[dataset]
        return abs(eps - (own.table_c if attack == CW else own.headline_eps)) < 1e-6

    return _rows(cells, {place: shown(*place) for place in _places(cells)})


def _places(cells: pd.DataFrame) -> list[tuple[str, str, float]]:
    return list(dict.fromkeys(zip(cells["dataset"], cells["attack"], cells["eps"], strict=True)))


def _rows(cells: pd.DataFrame, chosen: dict[tuple[str, str, float], bool]) -> pd.Series:
    found = [chosen[place] for place in zip(cells["dataset"], cells["attack"], cells["eps"], strict=True)]
    return pd.Series(found, index=cells.index, dtype=bool)


def beside_published(
    measured: pd.DataFrame, printed: pd.DataFrame, paper: Paper, *, order: Iterable[str], attacks: Iterable[str], keys: list[str]
) -> pd.DataFrame:
    """Outer join on `keys`, the published key and the metric, all of which must be equal (eps as printed). Methods come in the
    `order` of their published keys, then in that of the run, attacks in the order given. `method` is empty where the published
    method is not in the run, `key` where there is no published one."""
    known = {key: method for method, key in paper.keys.items() if key}
    measured = measured.assign(eps=measured["eps"].round(6), key=[paper.keys.get(method, "") for method in measured["method"]])
    printed = printed.assign(eps=printed["eps"].round(6), method=[known.get(key, "") for key in printed["key"]])
    table = measured.merge(printed, how="outer", on=[*keys, "key", "metric"])
    table["difference"] = table["measured"] - table["published"]
    pairs = list(zip(table["method"], table["key"], strict=True))
    table["label"] = [paper.names.get(key, key) if key else paper.labels.get(method, method) for method, key in pairs]
    in_paper = {key: place for place, key in enumerate(order)}
    in_run = {method: len(in_paper) + place for place, method in enumerate(paper.labels)}
    table["_method"] = [in_paper.get(key, in_run.get(method, len(in_paper) + len(in_run))) for method, key in pairs]
    both = pd.concat([measured[keys], printed[keys]])
    for column, first in (("dataset", []), ("attack", list(attacks))):
        places = {name: place for place, name in enumerate(in_order(both[column], first))}
        table[f"_{column}"] = table[column].map(places)
    table = table.sort_values(["_dataset", "eps", "_attack", "_method"], kind="stable", ignore_index=True)
    return table.astype({"images": "Int64", "seeds": "Int64"})


def printed_strength(rows: pd.DataFrame, otherwise: float, attacks: tuple[str, ...] = LINF) -> float:
    """rows: one data set's of one table. The largest eps that the paper's table has there, or `otherwise`."""
    printed = rows[rows["published"].notna() & rows["attack"].isin(attacks)]
    return float(printed["eps"].max()) if len(printed) else otherwise


def rounded(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Every number but eps, which is a name here."""
    return table.round({column: digits for column in table.select_dtypes("float") if column != "eps"})
