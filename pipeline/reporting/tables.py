"""Tables in long form: one row per data set, method, attack and eps, published and measured side by side. Tables 1-4 of the hcp
paper are here, those of the pcl paper in pcl_tables.py."""

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from pipeline.reporting.outcomes import (
    ADAPTIVE,
    CW,
    NOISE,
    PAPER_ATTACKS,
    PAPER_METHODS,
    Strengths,
    at_strengths,
    in_paper_order,
)
from pipeline.reporting.published import hcp_published

CELL = ["dataset", "method", "attack", "eps"]
COLUMNS = [
    *("dataset", "method", "label", "attack", "eps", "metric", "published", "measured", "difference"),
    *("images", "ci95_low", "ci95_high", "seeds", "seed_std", "std"),
]
NOISE_COLUMNS = [*COLUMNS, "published_std", "stop", "fooled"]
ABLATION = ("hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp", "at", "hcp_at")  # the rows of table 4, in its order


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


def noise_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """MSE of the noise: mean over seeds, `std` over the images (mean over seeds), normal 95 % interval of one seed's images; none
    under stop rule `batch`, where the images of a batch share one number of steps and so are no sample of that size."""
    rows = cells.groupby(CELL, sort=False).agg(
        measured=("mse", "mean"),
        images=("images", "first"),
        seeds=("seed", "size"),
        seed_std=("mse", "std"),
        std=("mse_std", "mean"),
        fooled=("fooled", "mean"),
    )
    half = 1.96 * rows["std"] / np.sqrt(rows["images"])
    half[half.index.get_level_values("attack") == f"{NOISE}batch"] = np.nan
    rows = rows.assign(metric="mse", ci95_low=rows["measured"] - half, ci95_high=rows["measured"] + half)
    return rows.reset_index()


def beside_published(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    *,
    methods: tuple[str, ...],
    labels: dict[str, str],
    attacks: tuple[str, ...] = PAPER_ATTACKS,
    keys: list[str] = CELL,
) -> pd.DataFrame:
    """Outer join on `keys` and the metric, all of which must be equal (eps as printed); methods and attacks in the order given."""
    measured, published = (table.assign(eps=table["eps"].round(6)) for table in (measured, published))
    table = measured.merge(published, how="outer", on=[*keys, "metric"])
    table["difference"] = table["measured"] - table["published"]
    table["label"] = [labels.get(method, method) for method in table["method"]]
    both = pd.concat([measured[keys], published[keys]])
    order = {
        "dataset": list(dict.fromkeys(both["dataset"])),
        "method": in_paper_order(both["method"], methods),
        "attack": in_paper_order(both["attack"], attacks),
    }
    for column, names in order.items():
        table[f"_{column}"] = table[column].map({name: place for place, name in enumerate(names)})
    table = table.sort_values(["_dataset", "eps", "_attack", "_method"], kind="stable", ignore_index=True)
    return table.astype({"images": "Int64", "seeds": "Int64"})


def hcp_cells(cells: pd.DataFrame, methods: list[str], strengths: dict[str, Strengths]) -> pd.DataFrame:
    """What the hcp paper's tables are about: its methods, its kind of attack, the strengths of the tables, and the noise."""
    other = (cells["attack"] == CW) | cells["attack"].str.startswith(ADAPTIVE)
    shown = at_strengths(cells, strengths, headline=False) | cells["attack"].str.startswith(NOISE)
    return cells[cells["method"].isin(methods) & shown & ~other]


def hcp_tables(
    cells: pd.DataFrame, published: pd.DataFrame, *, labels: dict[str, str], strengths: dict[str, Strengths]
) -> dict[int, pd.DataFrame]:
    """cells: `hcp_cells`; strengths: by data set. Tables by number. Every method of run.hcp is in tables 1-3; table 4 holds the
    loss terms and adversarial training. Table 2 has every attack that was run, also those that the paper has no column for."""
    clean = cells["attack"] == "clean"
    noise = cells["attack"].str.startswith(NOISE)
    bim = (cells["attack"] == "bim") & at_strengths(cells, strengths, headline=True)
    accuracy = {1: clean, 2: ~clean & ~noise, 4: cells["method"].isin(ABLATION) & (clean | bim)}
    tables = {}
    for number, chosen in accuracy.items():
        order = ABLATION if number == 4 else PAPER_METHODS
        table = beside_published(accuracy_rows(cells[chosen]), hcp_published(published, number), methods=order, labels=labels)
        tables[number] = rounded(table[COLUMNS], 4)
    table = beside_published(noise_rows(cells[noise]), hcp_published(published, 3), methods=PAPER_METHODS, labels=labels)
    table["stop"] = table["attack"].str.removeprefix(NOISE)
    tables[3] = rounded(table[NOISE_COLUMNS], 6)
    return dict(sorted(tables.items()))


def rounded(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Every number but eps, which is a name here."""
    return table.round({column: digits for column in table.select_dtypes("float") if column != "eps"})
