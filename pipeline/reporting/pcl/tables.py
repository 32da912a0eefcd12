"""Tables 3-9, 11 and 13 of the pcl paper in long form: each is a selection of the same cells, described by one `AccuracyTable`.
Table 12 (cost) is in cost.py."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from pipeline.reporting.outcomes import ADAPTIVE, LINF, NOISE, is_close
from pipeline.reporting.published import Paper, pcl_published
from pipeline.reporting.run import Dataset
from pipeline.reporting.tables import CELL, accuracy_rows, at_strengths, beside_published, rounded

WHITE_BOX, ADAPTIVE_SETTING = "white-box", "adaptive"
KEYS = [*CELL, "setting"]
COLUMNS = [
    *("table", "dataset", "setting", "method", "key", "label", "attack", "eps", "metric", "published", "measured", "difference"),
    *("images", "ci95_low", "ci95_high", "seeds", "seed_std"),
]
# Published keys, in the paper's order
PCL_FAMILY = ("pcl_deep", "pcl_at_fgsm", "pcl_at_pgd")
COMPARED = ("softmax_fs", "at_fgsm", "yu", "input_gradient", "adp", "madry", *PCL_FAMILY)
SOURCES = ("vgg", "vgg_at_fgsm", "madry", "pcl_at_pgd")


class AccuracyTable(NamedTuple):
    """A table of the paper: methods (published keys) and attacks in its order. settings: white-box, adaptive, or `from SOURCE`,
    images made on another model. every: shows all strengths on a data set that the paper's table lacks, else one. columns: what
    stands there, methods in the lines or the other way round; `target`: sources in the lines."""

    title: str
    methods: tuple[str, ...]
    attacks: tuple[str, ...]
    columns: Literal["attack", "method", "target"]
    settings: tuple[str, ...] = (WHITE_BOX,)
    every: bool = False


TABLES = {
    3: AccuracyTable(
        "robustness in white-box and black-box settings",
        ("softmax_fs", *PCL_FAMILY),
        ("clean", "fgsm", "bim", "cw", "mim", "pgd"),
        "attack",
        settings=(WHITE_BOX, "from vgg"),
    ),
    4: AccuracyTable(
        "adaptive white-box attacks",
        PCL_FAMILY,
        ("clean", *LINF),
        "attack",
        settings=(ADAPTIVE_SETTING, WHITE_BOX),
    ),
    5: AccuracyTable(
        "comparison with other defences",
        COMPARED,
        ("clean", "fgsm", "bim", "mim", "cw", "pgd"),
        "method",
        every=True,
    ),
    6: AccuracyTable(
        "comparison with other defences (MNIST)", COMPARED, ("clean", "fgsm", "bim", "mim", "cw", "pgd"), "method", every=True
    ),
    7: AccuracyTable(
        "comparison with other defences (CIFAR-100)",
        ("softmax_fs", "adp", *PCL_FAMILY),
        ("clean", "bim", "mim", "pgd"),
        "method",
        every=True,
    ),
    8: AccuracyTable(
        "comparison with adversarial training with domain adaptation",
        ("atda", "pcl_deep", "pcl_at_pgd"),
        ("clean", "fgsm", "mim", "pgd"),
        "method",
        every=True,
    ),
    9: AccuracyTable(
        "losses on the same layers",
        ("softmax_fs", "softmax_deep", "center_deep", "contrastive", "triplet", "pcl_deep"),
        ("clean", *LINF),
        "method",
        every=True,
    ),
    11: AccuracyTable(
        "the PCL loss on different layers",
        ("softmax_fs", "pcl_1", "pcl_2", "pcl_3", "pcl_4", "pcl_5", "pcl", "pcl_deep"),
        ("clean", "fgsm", "pgd"),
        "attack",
    ),
    13: AccuracyTable(
        "transfer of PGD images between models", SOURCES, ("pgd",), "target", settings=tuple(f"from {name}" for name in SOURCES)
    ),
}


COMPARISONS = (5, 6, 7)  # one a data set


def pcl_cells(cells: pd.DataFrame, transfer: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """`load_cells` without the noise, and `load_transfer`, with the column `setting`: adaptive_pgd becomes pgd, adaptive; a source
    is called by its published key, and left out where it has none."""
    own = cells[~cells["attack"].str.startswith(NOISE)]
    setting = np.where(own["attack"].str.startswith(ADAPTIVE), ADAPTIVE_SETTING, WHITE_BOX)
    own = own.assign(setting=setting, attack=own["attack"].str.removeprefix(ADAPTIVE))
    sources = transfer["source"].map(lambda source: paper.keys.get(source, ""))
    known = transfer.assign(setting="from " + sources.astype(str))[sources != ""]
    return pd.concat([own, known], ignore_index=True) if len(known) else own


def rows_of(number: int, cells: pd.DataFrame, paper: Paper) -> list[str]:
    """Methods in the table: those that have one of its published keys, in table 3 also the paper's others that have none, and in
    table 4 all that an adaptive attack was run on."""
    own = [method for method, key in paper.keys.items() if key in TABLES[number].methods]
    known = {key for table in TABLES.values() for key in table.methods}
    further = {
        3: [method for method, key in paper.keys.items() if key not in known],
        4: list(cells.loc[cells["setting"] == ADAPTIVE_SETTING, "method"]),
    }
    return own + [method for method in dict.fromkeys(further.get(number, [])) if method not in own]


def compared_in(dataset: str, published: pd.DataFrame) -> int:
    """The table that compares defences on this data set; the first for a set that none has, so that nothing stands there twice."""
    own = (number for number in COMPARISONS if dataset in set(pcl_published(published, number)["dataset"]))
    return next(own, COMPARISONS[0])


def pcl_table(
    number: int, cells: pd.DataFrame, paper: Paper, published: pd.DataFrame, datasets: dict[str, Dataset]
) -> pd.DataFrame:
    """cells: `pcl_cells`. One accuracy table; rows by data set, setting, attack, eps, method."""
    table, printed = TABLES[number], pcl_published(published, number)
    chosen = cells["method"].isin(rows_of(number, cells, paper))
    chosen &= cells["attack"].isin(table.attacks) & cells["setting"].isin(table.settings)
    chosen &= at_strengths(cells, printed, datasets, every=table.every)
    if number in COMPARISONS:
        own = [dataset for dataset in cells["dataset"].unique() if compared_in(dataset, published) == number]
        chosen &= cells["dataset"].isin(own)
    measured = accuracy_rows(cells[chosen], KEYS)
    rows = beside_published(measured, printed, paper, order=table.methods, attacks=table.attacks, keys=KEYS)
    rows["_setting"] = rows["setting"].map({name: place for place, name in enumerate(table.settings)})
    rows = rows.sort_values(["_dataset", "_setting", "_attack", "eps", "_method"], kind="stable", ignore_index=True)
    return rounded(rows.assign(table=number)[COLUMNS], 4)


def sweep_table(cells: pd.DataFrame, paper: Paper, datasets: dict[str, Dataset]) -> pd.DataFrame:
    """pcl figure 7: accuracy at every eps that was measured, of the methods that were attacked beyond the eps of the tables; clean
    accuracy is the row with eps 0. cells: `load_cells`."""
    beyond = pd.Series(False, index=cells.index)
    for dataset, own in datasets.items():
        for eps in own.sweep:
            beyond |= (cells["dataset"] == dataset) & is_close(cells["eps"], eps)
    linf = cells["attack"].isin(LINF)
    swept = cells.loc[beyond & linf, ["dataset", "method"]].drop_duplicates()
    rows = accuracy_rows(cells[linf | (cells["attack"] == "clean")].merge(swept, on=["dataset", "method"]))
    rows["key"] = [paper.keys.get(method, "") for method in rows["method"]]
    rows["label"] = [paper.labels[method] for method in rows["method"]]
    rows["_dataset"] = rows["dataset"].map({name: place for place, name in enumerate(datasets)})
    rows = rows.assign(eps=rows["eps"].round(6)).sort_values(["_dataset", "eps"], kind="stable", ignore_index=True)
    columns = ["dataset", "method", "key", "label", "attack", "eps", "measured", "images", "ci95_low", "ci95_high", "seeds"]
    return rounded(rows[[*columns, "seed_std"]], 4)
