"""Tables 1-4 of the hcp paper in long form."""

import numpy as np
import pandas as pd

from pipeline.reporting.outcomes import ADAPTIVE, CW, NOISE
from pipeline.reporting.published import Paper, hcp_published
from pipeline.reporting.run import Dataset
from pipeline.reporting.tables import CELL, accuracy_rows, at_strengths, beside_published, rounded

# Published keys and attacks in the paper's order
METHODS = ("softmax_fs", "at", "center", "pcl", "hcp", "hcp_fs", "hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp_at")
ABLATION = ("hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp", "at", "hcp_at")  # table 4
ATTACKS = ("clean", "fgsm", "bim", "mim")
COLUMNS = [
    *("table", "dataset", "method", "key", "label", "attack", "eps", "metric", "published", "measured", "difference"),
    *("images", "ci95_low", "ci95_high", "seeds", "seed_std", "std", "published_std", "stop", "fooled"),
]


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


def hcp_cells(cells: pd.DataFrame, paper: Paper, published: pd.DataFrame, datasets: dict[str, Dataset]) -> pd.DataFrame:
    """What the paper's tables are about: its methods, its kind of attack at the strengths of table 2, and the noise."""
    other = (cells["attack"] == CW) | cells["attack"].str.startswith(ADAPTIVE)
    shown = at_strengths(cells, hcp_published(published, 2), datasets, every=True) | cells["attack"].str.startswith(NOISE)
    return cells[cells["method"].isin(list(paper.keys)) & shown & ~other]


def hcp_tables(cells: pd.DataFrame, paper: Paper, published: pd.DataFrame, datasets: dict[str, Dataset]) -> dict[int, pd.DataFrame]:
    """cells: `load_cells`. Tables by number. Every method with a row is in tables 1-3; table 4 holds the loss terms and adversarial
    training. Table 2 has every attack that was run, also those that the paper has no column for."""
    own = hcp_cells(cells, paper, published, datasets)
    clean, noise = own["attack"] == "clean", own["attack"].str.startswith(NOISE)
    in_ablation = own["method"].isin([method for method, key in paper.keys.items() if key in ABLATION])
    bim = cells[(cells["attack"] == "bim") & at_strengths(cells, hcp_published(published, 4), datasets, every=False)]
    bim = bim[bim["method"].isin(own.loc[in_ablation, "method"])]
    rows = {
        1: accuracy_rows(own[clean]),
        2: accuracy_rows(own[~clean & ~noise]),
        3: noise_rows(own[noise]),
        4: accuracy_rows(pd.concat([own[clean & in_ablation], bim])),
    }
    tables = {}
    for number, measured in rows.items():
        order = ABLATION if number == 4 else METHODS
        printed = hcp_published(published, number)
        table = beside_published(measured, printed, paper, order=order, attacks=ATTACKS, keys=CELL)
        table = table.assign(table=number, stop=table["attack"].str.removeprefix(NOISE) if number == 3 else None)
        tables[number] = rounded(table.reindex(columns=COLUMNS), 6 if number == 3 else 4)
    return tables
