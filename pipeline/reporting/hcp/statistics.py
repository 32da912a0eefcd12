"""Friedman test and Nemenyi post-hoc over experiments, hcp Sec. 5.3; the paper's own statistic recomputed from its tables."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats

from pipeline.reporting.hcp.tables import METHODS, hcp_cells
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import NOISE, first_present, in_order
from pipeline.reporting.published import Paper, hcp_published
from pipeline.reporting.run import Dataset

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


def measured_blocks(cells: pd.DataFrame, methods: list[str], paper: pd.DataFrame) -> pd.DataFrame:
    """cells: `hcp_cells`; paper: `published_blocks`. A block is (data set, attack, eps), mean over the seeds: clean accuracy,
    accuracy under an attack, or the MSE of the noise measurement under the paper's stop rule if that was measured. On the paper's
    data sets only its own blocks count. Blocks with a gap are left out."""
    noise = cells["attack"].str.startswith(NOISE)
    used = ~noise | (cells["attack"] == first_present(cells["attack"], "noise_batch", "noise_sample"))
    rows = cells.assign(
        value=cells["accuracy"].where(~noise, cells["mse"]),
        attack=cells["attack"].where(~noise, "noise"),
        eps=cells["eps"].round(6),
    )[used & cells["method"].isin(methods)]
    blocks = rows.groupby(["dataset", "attack", "eps", "method"], sort=False)["value"].mean().unstack("method")
    theirs = set(paper.index.get_level_values("dataset"))
    kept = [block in paper.index or block[0] not in theirs for block in blocks.index]
    return blocks.loc[kept, [method for method in methods if method in blocks]].dropna()


def published_blocks(published: pd.DataFrame) -> pd.DataFrame:
    """Tables 1-3 of the hcp paper: data set x (clean, FGSM, BIM, MIM, MSE) by published key."""
    rows = pd.concat([hcp_published(published, number) for number in (1, 2, 3)])
    rows["attack"] = rows["attack"].replace("noise_batch", "noise")
    return rows.pivot(index=["dataset", "attack", "eps"], columns="key", values="published")


def blocks_text(blocks: pd.DataFrame) -> str:
    """`cifar10, svhn: clean, FGSM at eps 0.03, noise`: what the blocks are."""
    shared: dict[str, list[str]] = {}
    for dataset, own in blocks.groupby(level="dataset", sort=False):
        strengths: dict[str, list[str]] = {}
        for _, attack, eps in own.index:
            strengths.setdefault(attack, []).append(f"{eps:g}")
        plain = ("clean", "noise")
        names = [name if name in plain else f"{attack_text(name)} at eps {', '.join(eps)}" for name, eps in strengths.items()]
        shared.setdefault("; ".join(names), []).append(str(dataset))
    return " | ".join(f"{', '.join(datasets)}: {text}" for text, datasets in shared.items())


def printed_statistics(published: pd.DataFrame) -> pd.DataFrame:
    return published[(published["paper"] == "hcp") & (published["table"] == "sec5.3")]


def printed_methods(published: pd.DataFrame) -> list[str]:
    """The methods of Sec. 5.3 in its order."""
    rows = printed_statistics(published)
    return [str(key) for key in rows.loc[rows["metric"] == "friedman-mean-rank", "key"]]


def hcp_groups(
    cells: pd.DataFrame, paper: Paper, published: pd.DataFrame, datasets: dict[str, Dataset], compare: list[str]
) -> dict[str, pd.DataFrame]:
    """Blocks by name of the group; cells: `load_cells`. In `all` the columns are the names of methods, in the others published
    keys. `published_best`: HCP is the better of HCP (SM) and HCP (FS) in each experiment."""
    theirs, own = published_blocks(published), hcp_cells(cells, paper, published, datasets)
    keyed = {method: key for key in compare if (method := paper.method(key))}
    in_paper = [method for key in METHODS if (method := paper.method(key))]
    four = theirs[printed_methods(published)]
    return {
        "compare": measured_blocks(own, list(keyed), theirs).rename(columns=keyed),
        "all": measured_blocks(own, in_order(paper.keys, in_paper), theirs),
        "published": four,
        "published_best": four.assign(hcp=theirs[["hcp", "hcp_fs"]].max(axis=1)),
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
        rows += [{"statistic": name, "value": test.scalars[name]} for name in SCALARS if name != "blocks"]
        rows += [{"statistic": "blocks", "value": test.scalars["blocks"], "note": blocks_text(blocks)}]
        rows += [{"statistic": "alpha", "value": alpha}]
        pairs = combinations([str(method) for method in blocks], 2)
        rows += [{"statistic": "nemenyi_p", "method": a, "other": b, "value": test.p_values.loc[a, b]} for a, b in pairs]
    return pd.DataFrame(rows).assign(group=group)


def statistics_frame(groups: Mapping[str, pd.DataFrame], published: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """groups: `hcp_groups`. hcp_statistics.csv: group, statistic, method, other, value, what the paper prints for it (not for group
    `all`), note."""
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
