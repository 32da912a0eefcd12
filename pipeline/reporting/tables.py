"""Tables 1-4 of the hcp paper in long form: one row per data set, method, attack and eps, published and measured side by side."""

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from pipeline.reporting.outcomes import NOISE, PAPER_ATTACKS, PAPER_METHODS, first_present, in_paper_order
from pipeline.reporting.published import published_table

CELL = ["dataset", "method", "attack", "eps"]
COLUMNS = [
    *("dataset", "method", "label", "attack", "eps", "metric", "published", "measured", "difference"),
    *("images", "ci95_low", "ci95_high", "seeds", "seed_std", "std"),
]
NOISE_COLUMNS = [*COLUMNS, "published_std", "stop", "fooled"]
ABLATION = ("hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp", "at", "hcp_at")  # the rows of table 4, in its order


def accuracy_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in %, mean over seeds, with its 95 % Wilson interval.

    The interval is that of one seed's images at the mean accuracy: every seed is tested on the same images, so seeds add no images.
    How much the seeds differ is `seed_std`, which is empty for one seed.
    """
    rows = cells.groupby(CELL, sort=False).agg(
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
    measured: pd.DataFrame, published: pd.DataFrame, *, methods: tuple[str, ...], labels: dict[str, str]
) -> pd.DataFrame:
    """Outer join on data set, method, attack, eps and metric, all of which must be equal; methods in the order given."""
    table = measured.merge(published, how="outer", on=[*CELL, "metric"])
    table["difference"] = table["measured"] - table["published"]
    table["label"] = [labels.get(method, method) for method in table["method"]]
    both = pd.concat([measured[CELL], published[CELL]])
    order = {
        "dataset": list(dict.fromkeys(both["dataset"])),
        "method": in_paper_order(both["method"], methods),
        "attack": in_paper_order(both["attack"], PAPER_ATTACKS),
    }
    for column, names in order.items():
        table[f"_{column}"] = table[column].map({name: place for place, name in enumerate(names)})
    table = table.sort_values(["_dataset", "eps", "_attack", "_method"], kind="stable", ignore_index=True)
    return table.astype({"images": "Int64", "seeds": "Int64"})


def hcp_tables(
    cells: pd.DataFrame, published: pd.DataFrame, *, labels: dict[str, str], headline_eps: dict[str, float]
) -> dict[int, pd.DataFrame]:
    """cells: `load_cells`; headline_eps: by data set. Tables by number. Every method that was run is in tables 1-3; table 4 holds
    the loss terms and adversarial training. Table 2 has every attack that was run, also those that the paper has no column for."""
    clean = cells["attack"] == "clean"
    noise = cells["attack"].str.startswith(NOISE)
    headline = cells["eps"] == cells["dataset"].map(headline_eps)
    bim = (cells["attack"] == "bim") & headline
    accuracy = {1: clean, 2: ~clean & ~noise, 4: cells["method"].isin(ABLATION) & (clean | bim)}
    tables = {}
    for number, chosen in accuracy.items():
        order = ABLATION if number == 4 else PAPER_METHODS
        table = beside_published(accuracy_rows(cells[chosen]), published_table(published, number), methods=order, labels=labels)
        tables[number] = table[COLUMNS].round(4)
    table = beside_published(noise_rows(cells[noise]), published_table(published, 3), methods=PAPER_METHODS, labels=labels)
    table["stop"] = table["attack"].str.removeprefix(NOISE)
    tables[3] = table[NOISE_COLUMNS].round(6)
    return dict(sorted(tables.items()))


def summary(cells: pd.DataFrame, *, headline_eps: dict[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """{dataset: {method: {"clean": %, attack: % at the headline eps, ..., "noise_mse": mean}}}, means over seeds."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    noise = first_present(cells["attack"], "noise_sample", "noise_batch")
    means = cells.groupby(CELL, sort=False)[["accuracy", "mse"]].mean().reset_index()
    for row in means.itertuples():
        dataset, method, attack = str(row.dataset), str(row.method), str(row.attack)
        values = result.setdefault(dataset, {}).setdefault(method, {})
        if attack == "clean" or (not attack.startswith(NOISE) and row.eps == headline_eps[dataset]):
            values[attack] = round(float(row.accuracy), 2)  # type: ignore[arg-type]
        elif attack == noise:
            values["noise_mse"] = round(float(row.mse), 4)  # type: ignore[arg-type]
    return result
