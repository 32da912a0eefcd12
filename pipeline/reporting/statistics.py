"""Friedman test and Nemenyi post-hoc over experiments, hcp Sec. 5.3; the paper's own statistic recomputed from its tables."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats

from pipeline.reporting.outcomes import NOISE, first_present, in_paper_order
from pipeline.reporting.published import hcp_published

COLUMNS = ["group", "statistic", "method", "other", "value", "printed", "note"]
SCALARS = ("chi2", "p", "df", "blocks", "critical_value", "critical_distance")
PRINTED = {"chi2": "friedman-chi2", "critical_value": "friedman-critical-value", "critical_distance": "nemenyi-critical-distance"}


class Friedman(NamedTuple):
    """ranks: mean rank by method, 1 = best; p_values: Nemenyi, methods x methods; scalars: see SCALARS."""

    ranks: pd.Series
    p_values: pd.DataFrame
    scalars: dict[str, float]


def friedman(blocks: pd.DataFrame, alpha: float) -> Friedman:
    """blocks: (experiments, methods), larger is better. Ties share their mean rank."""
    n, k = blocks.shape
    result = stats.friedmanchisquare(*[blocks[method] for method in blocks])
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    scalars = {
        "chi2": result.statistic,
        "p": result.pvalue,
        "df": k - 1,
        "blocks": n,
        "critical_value": stats.chi2.ppf(1 - alpha, k - 1),
        "critical_distance": q * np.sqrt(k * (k + 1) / (6 * n)),
    }
    ranks = blocks.rank(axis=1, ascending=False).mean()
    return Friedman(ranks, posthoc_nemenyi_friedman(blocks), {name: float(value) for name, value in scalars.items()})


def why_not(blocks: pd.DataFrame) -> str:
    """Why there is no test, or nothing."""
    n, k = blocks.shape
    if k < 3 or n < 3:
        return f"needs at least 3 methods and 3 experiments that all of them took part in, got {k} and {n}"
    return "" if (blocks.nunique(axis=1) > 1).any() else "all methods tie in every experiment"


def measured_blocks(cells: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """A block is (data set, attack, eps, seed): clean accuracy, accuracy under each attack at each eps, and the MSE of the noise
    measurement under the paper's stop rule if that was measured. Methods that were not run and blocks with a gap are left out."""
    noise = cells["attack"].str.startswith(NOISE)
    used = ~noise | (cells["attack"] == first_present(cells["attack"], "noise_batch", "noise_sample"))
    rows = cells.assign(value=cells["accuracy"].where(~noise, cells["mse"]))[used & cells["method"].isin(methods)]
    blocks = rows.pivot(index=["dataset", "attack", "eps", "seed"], columns="method", values="value")
    return blocks[[method for method in methods if method in blocks]].dropna()


def published_blocks(published: pd.DataFrame) -> pd.DataFrame:
    """Tables 1-3 of the hcp paper: data set x (clean, FGSM, BIM, MIM, MSE) by method."""
    rows = pd.concat([hcp_published(published, number) for number in (1, 2, 3)])
    return rows.pivot(index=["dataset", "attack", "eps"], columns="method", values="published")


def printed_statistics(published: pd.DataFrame) -> pd.DataFrame:
    return published[(published["paper"] == "hcp") & (published["table"] == "sec5.3")]


def printed_methods(published: pd.DataFrame) -> list[str]:
    """The methods of Sec. 5.3 in its order."""
    rows = printed_statistics(published)
    return [str(key) for key in rows.loc[rows["metric"] == "friedman-mean-rank", "key"]]


def hcp_groups(cells: pd.DataFrame, published: pd.DataFrame, compare: list[str], methods: list[str]) -> dict[str, pd.DataFrame]:
    """Blocks by name of the group. `published_best`: HCP is the better of HCP (SM) and HCP (FS) in each experiment."""
    paper = published_blocks(published)
    four = paper[printed_methods(published)]
    return {
        "compare": measured_blocks(cells, compare),
        "all": measured_blocks(cells, in_paper_order(methods)),
        "published": four,
        "published_best": four.assign(hcp=paper[["hcp", "hcp_fs"]].max(axis=1)),
    }


def group_rows(group: str, blocks: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """One group in the long form of hcp_statistics.csv; a row `reason` where there is nothing to test."""
    reason = why_not(blocks)
    rows: list[dict[str, object]]
    if reason:
        rows = [{"statistic": "reason", "note": reason}]
    else:
        test = friedman(blocks, alpha)
        rows = [{"statistic": "mean_rank", "method": method, "value": rank} for method, rank in test.ranks.items()]
        rows += [{"statistic": name, "value": test.scalars[name]} for name in SCALARS]
        rows += [{"statistic": "alpha", "value": alpha}]
        pairs = combinations([str(method) for method in blocks], 2)
        rows += [{"statistic": "nemenyi_p", "method": a, "other": b, "value": test.p_values.loc[a, b]} for a, b in pairs]
    return pd.DataFrame(rows).assign(group=group)


def statistics_frame(groups: Mapping[str, pd.DataFrame], published: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """hcp_statistics.csv: group, statistic, method, other, value, what the paper prints for it (not for group `all`), note."""
    table = pd.concat([group_rows(name, blocks, alpha) for name, blocks in groups.items()], ignore_index=True)
    rows = printed_statistics(published)
    printed = {
        (metric, key): value for metric, key, value in zip(rows["metric"], rows["key"].fillna(""), rows["value"], strict=True)
    }
    table = table.reindex(columns=COLUMNS)
    text = ["group", "statistic", "method", "other", "note"]
    table[text] = table[text].astype(object).fillna("")
    names = {**PRINTED, "mean_rank": "friedman-mean-rank", "blocks": "experiments"}
    table["printed"] = [
        np.nan if group == "all" else printed.get((names.get(statistic, ""), method), np.nan)
        for group, statistic, method in zip(table["group"], table["statistic"], table["method"], strict=True)
    ]
    table["value"] = [float(f"{value:.6g}") for value in table["value"].astype(float)]  # p-values span many orders
    return table
