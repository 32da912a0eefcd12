"""Tables 3-9, 11 and 13 of the pcl paper in long form: each is a selection of the same cells, described by one `AccuracyTable`.
Table 12 (cost) is in pcl_cost.py."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from pipeline.reporting.outcomes import ADAPTIVE, LINF, NOISE, Strengths, at_strengths
from pipeline.reporting.published import pcl_published
from pipeline.reporting.tables import CELL, accuracy_rows, beside_published, rounded

WHITE_BOX, ADAPTIVE_SETTING = "white-box", "adaptive"
KEYS = [*CELL, "setting"]
COLUMNS = [
    *("dataset", "setting", "method", "label", "attack", "eps", "metric", "published", "measured", "difference"),
    *("images", "ci95_low", "ci95_high", "seeds", "seed_std"),
]
PCL_FAMILY = ("pcl_deep", "pcl_at_fgsm", "pcl_at_pgd")
COMPARED = ("softmax_fs", "at_fgsm", "yu", "input_gradient", "adp", "madry", *PCL_FAMILY)
SOURCES = ("vgg", "vgg_at_fgsm", "madry", "pcl_at_pgd")
UNKNOWN = {"yu": "Yu"}  # in the paper's tables, but no method of ours: its name


class AccuracyTable(NamedTuple):
    """A table of the paper: methods and attacks in its order. settings: white-box, adaptive, or `from SOURCE`, images made on
    another model. every: at each eps and c of the evaluation, else at the headline's. columns: what stands there, methods in the
    lines or the other way round; `target`: sources in the lines."""

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
        "comparison with other defences (CIFAR-10)", COMPARED, ("clean", "fgsm", "bim", "mim", "cw", "pgd"), "method", every=True
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


def pcl_cells(cells: pd.DataFrame, transfer: pd.DataFrame) -> pd.DataFrame:
    """`load_cells` without the noise, and `load_transfer`, with the column `setting`: adaptive_pgd becomes pgd, adaptive."""
    own = cells[~cells["attack"].str.startswith(NOISE)]
    setting = np.where(own["attack"].str.startswith(ADAPTIVE), ADAPTIVE_SETTING, WHITE_BOX)
    own = own.assign(setting=setting, attack=own["attack"].str.removeprefix(ADAPTIVE))
    return pd.concat([own, transfer], ignore_index=True)


def rows_of(number: int, cells: pd.DataFrame, own: list[str]) -> tuple[str, ...]:
    """The paper's methods, below them in table 4 all others that an adaptive attack was run on, and in table 3 those of `own` that
    the paper does not know."""
    known = TABLES[number].methods if number == 4 else {name for table in TABLES.values() for name in table.methods}
    adaptive = cells.loc[cells["setting"] == ADAPTIVE_SETTING, "method"]
    further = {3: own, 4: list(adaptive)}.get(number, [])
    return TABLES[number].methods + tuple(name for name in dict.fromkeys(further) if name not in known)


def pcl_table(
    number: int,
    cells: pd.DataFrame,
    published: pd.DataFrame,
    *,
    strengths: dict[str, Strengths],
    labels: dict[str, str],
    own: list[str],
) -> pd.DataFrame:
    """cells: `pcl_cells`; strengths: by data set; own: run.pcl. One accuracy table; rows by data set, setting, attack, eps,
    method."""
    table, methods, labels = TABLES[number], rows_of(number, cells, own), {**UNKNOWN, **labels}
    chosen = cells["method"].isin(methods) & cells["attack"].isin(table.attacks) & cells["setting"].isin(table.settings)
    chosen &= at_strengths(cells, strengths, headline=not table.every)
    measured = accuracy_rows(cells[chosen], KEYS)
    rows = beside_published(
        measured, pcl_published(published, number), methods=methods, labels=labels, attacks=table.attacks, keys=KEYS
    )
    places = {name: place for place, name in enumerate(table.settings)}
    rows["_setting"] = rows["setting"].map(places)
    rows = rows.sort_values(["_dataset", "_setting", "_attack", "eps", "_method"], kind="stable", ignore_index=True)
    return rounded(rows[COLUMNS], 4)


def sweep_table(cells: pd.DataFrame, *, sweep: dict[str, list[float]], labels: dict[str, str]) -> pd.DataFrame:
    """pcl figure 7: accuracy at every eps that was measured, of the methods that were attacked beyond the eps of the tables; clean
    accuracy is the row with eps 0. cells: `load_cells`; sweep: the further eps by data set."""
    beyond = pd.Series(
        [any(abs(e - value) < 1e-6 for value in sweep[d]) for d, e in zip(cells["dataset"], cells["eps"], strict=True)],
        index=cells.index,
        dtype=bool,
    )
    linf = cells["attack"].isin(LINF)
    swept = set(cells.loc[beyond & linf, ["dataset", "method"]].itertuples(index=False, name=None))
    of_swept = pd.Series(
        [pair in swept for pair in zip(cells["dataset"], cells["method"], strict=True)], index=cells.index, dtype=bool
    )
    rows = accuracy_rows(cells[of_swept & (linf | (cells["attack"] == "clean"))])
    rows["label"] = [labels.get(method, method) for method in rows["method"]]
    rows["published"] = np.nan  # the paper gives a drawing
    rows["_dataset"] = rows["dataset"].map({name: place for place, name in enumerate(sweep)})
    rows["eps"] = rows["eps"].round(6)
    rows = rows.sort_values(["_dataset", "eps"], kind="stable", ignore_index=True)
    return rounded(rows[[name for name in COLUMNS if name in rows]], 4)
