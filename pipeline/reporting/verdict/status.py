"""What every method keeps under the strongest attacks, and the status that follows from it."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from pipeline.evaluation.signs import NEAR
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import LINF, NOISE, first_present
from pipeline.reporting.run import Dataset, Kind, Method
from pipeline.reporting.tables import CELL, accuracy_rows, at_headline, interval, rounded
from pipeline.reporting.verdict.outcomes import ADAPTIVE_SUITE, AUTOATTACK, AUTOATTACK_L2, ROBUST

FEATURES, FEATURES_ADVERSARIAL = "Loss on features", "Loss on features + adversarial training"
GROUPS = (  # in this order in verdict.csv
    "Undefended",
    FEATURES,
    FEATURES_ADVERSARIAL,
    "Adversarial training",
    "Other defence",
    "Other defence + adversarial training",
)
MUST_STAY = 0.5  # of what the papers' strongest attack leaves, for a method to hold
COLUMNS = [
    *("dataset", "group", "method", "label", "attack", "eps", "metric", "measured", "images"),
    *("ci95_low", "ci95_high", "seeds", "seed_std", "chance"),
]
HOLDS, MASKED, LOOKED, FALLS, UNTRAINED = "holds", "masked gradients", "only looked robust", "does not hold", "does not learn"
STATUSES = {  # above, by the 95 % interval: chance and the undefended model
    HOLDS: "above chance and the undefended model in the worst case, at least half (as measured) of what the papers' attacks leave",
    MASKED: "what is left would hold, but the gradients look masked: an upper bound that no attack here could lower",
    LOOKED: "above chance and the undefended model under an attack of the papers; not in the worst case, or less than half remains",
    FALLS: "no better than chance or the undefended model, and no attack of the papers made it look so",
    UNTRAINED: "at chance without any attack, or on validation images under the attack that it was trained with",
}

NEXT = {  # to try; ADVERSARIAL where the model has been trained on adversarial examples
    HOLDS: "more images and seeds, AutoAttack's standard version where another was run, a larger eps, an attack written for it",
    MASKED: "find what blocks the gradient and attack around it (BPDA, EOT), with more queries and images",
    LOOKED: "do not report the papers' attacks alone; add adversarial training, and compare with adversarial training alone",
    FALLS: "add adversarial training; a smaller eps tells whether it helps at all",
    UNTRAINED: "a longer schedule, a lower learning rate, clipped gradients or a smaller eps in training, before any attack",
}
ADVERSARIAL = "train longer, on stronger adversarial examples and at the eps of the verdict; report the worst case"


class Status(NamedTuple):
    """name: a key of STATUSES; note: a few words on it."""

    name: str
    note: str


def group_of(kind: Kind) -> str:
    base = FEATURES if kind.features else "Other defence" if kind.other else ""
    if kind.adversarial:
        return f"{base} + adversarial training" if base else "Adversarial training"
    return base or "Undefended"


def next_step(status: str, group: str) -> str:
    return ADVERSARIAL if status in (LOOKED, FALLS) and "adversarial training" in group.lower() else NEXT[status]


def undefended_method(methods: dict[str, Method]) -> str | None:
    """What the others are compared with: the published softmax from scratch, else the first without any defence."""
    names = [name for name, method in methods.items() if not any(method.kind)]
    return next((name for name in names if methods[name].published == "softmax_fs"), names[0] if names else None)


def verdict_frame(
    cells: pd.DataFrame, verdict: pd.DataFrame, datasets: dict[str, Dataset], methods: dict[str, Method]
) -> pd.DataFrame:
    """cells: `load_cells`; verdict: `load_verdict`. Clean accuracy, accuracy under every attack at the headline's strength, the
    worst cases (`adaptive`, `autoattack`, `autoattack_l2`, `robust`), and `noise`, the mean MSE of the noise measurement (stop rule
    `sample` if it was run). chance: % that always the same answer gets right."""
    worst = verdict[verdict["attack"].isin((ADAPTIVE_SUITE, AUTOATTACK, AUTOATTACK_L2, ROBUST))]
    rows = accuracy_rows(pd.concat([cells[at_headline(cells, datasets)], worst]))
    name = first_present(cells["attack"], f"{NOISE}sample", f"{NOISE}batch")
    noise = cells[cells["attack"] == name].groupby(CELL, sort=False).agg(measured=("mse", "mean"), images=("images", "first"))
    table = pd.concat([rows, noise.reset_index().assign(attack="noise", metric="mse")], ignore_index=True)
    table["chance"] = table["dataset"].map(cells[cells["attack"] == "clean"].groupby("dataset")["chance"].first())
    table["group"] = [group_of(methods[method].kind) for method in table["method"]]
    table["label"] = [methods[method].label for method in table["method"]]
    for column, names in (("dataset", datasets), ("group", GROUPS), ("method", methods)):
        table[f"_{column}"] = table[column].map({name: place for place, name in enumerate(names)})
    table = table.sort_values(["_dataset", "_group", "_method"], kind="stable", ignore_index=True)
    return rounded(table.reindex(columns=COLUMNS), 4).astype({"images": "Int64", "seeds": "Int64"})


def summary(verdicts: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """verdicts: `verdict_frame` -> {dataset: {method: {column: accuracy in %}}}: clean, paper (under the strongest of the papers'
    attacks), autoattack, adaptive, robust."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for (dataset, method), rows in verdicts.groupby(["dataset", "method"], sort=False):
        found = {"clean": row_of(rows, "clean"), "paper": papers_attack(rows)}
        found |= {attack: row_of(rows, attack) for attack in (AUTOATTACK, ADAPTIVE_SUITE, ROBUST)}
        values = {name: round(float(row["measured"]), 2) for name, row in found.items() if row is not None}
        result.setdefault(str(dataset), {})[str(method)] = values
    return result


def row_of(rows: pd.DataFrame, attack: str) -> pd.Series | None:
    """rows: one method's."""
    found = rows[rows["attack"] == attack]
    return None if found.empty else found.iloc[0]


def papers_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """rows: one method's. The l-inf attacks of the papers."""
    return rows[rows["attack"].isin(LINF)]


def papers_attack(rows: pd.DataFrame) -> pd.Series | None:
    """rows: one method's. The strongest of them."""
    attacks = papers_rows(rows)
    return None if attacks.empty else attacks.sort_values("measured", kind="stable").iloc[0]


def _above(row: pd.Series, undefended: pd.DataFrame) -> bool:
    """Better than chance and than the undefended model under the same attack."""
    other = row_of(undefended, row["attack"])
    return bool(interval(row)[0] > max([row["chance"], *([] if other is None else [interval(other)[1]])]))


def status_of(rows: pd.DataFrame, undefended: pd.DataFrame, signs: pd.DataFrame, learnt: pd.DataFrame | None = None) -> Status:
    """rows: one method's; undefended: those of the undefended model of the same data set, or none; signs: the method's rows of
    `masking_frame`; learnt: its row of `load_learnt`, if any. Better means that the 95 % intervals, with the spread over the seeds,
    lie apart."""
    clean, robust = row_of(rows, "clean"), row_of(rows, ROBUST)
    if clean is None or robust is None:
        raise ValueError(f"{rows['label'].iloc[0]} has no clean or no robust accuracy; run `dvc repro`")
    if interval(clean)[0] <= clean["chance"]:
        return Status(UNTRAINED, f"{clean['measured']:.0f} % without any attack, chance is {clean['chance']:.0f} %")
    if learnt is not None and len(learnt) and interval(learnt.iloc[0])[0] <= clean["chance"]:
        own = f"{learnt['measured'].iloc[0]:.0f} % of validation images under the attack of its training"
        return Status(UNTRAINED, f"{own}, chance is {clean['chance']:.0f} %")
    strongest = papers_attack(rows)
    if _above(robust, undefended):
        over = 100.0 if strongest is None else robust["measured"] - MUST_STAY * strongest["measured"]
        near = "; near the half that must stay" if abs(over) <= 100 * NEAR / robust["images"] else ""
        if strongest is None or over >= 0:
            status = _held(100 * robust["measured"] / clean["measured"], signs)
            return status._replace(note=status.note + near)
        kept = f"keeps {robust['measured']:.0f} of the {strongest['measured']:.0f} % under {attack_text(strongest['attack'])}"
        return Status(LOOKED, kept + near)
    papers = papers_rows(rows)
    shown = [(row["measured"], attack_text(row["attack"])) for _, row in papers.iterrows() if _above(row, undefended)]
    if not shown:
        return Status(FALLS, "")
    looked, attack = max(shown)
    return Status(LOOKED, f"{looked:.0f} % under {attack}")


def _held(kept: float, signs: pd.DataFrame) -> Status:
    """kept: in the worst case, % of clean. A check that warns, of any seed, counts; those near a threshold are named."""
    warned = list(dict.fromkeys(signs.loc[~signs["passed"], "check"]))
    near = [name for name in dict.fromkeys(signs.loc[signs["near"], "check"]) if name not in warned]
    close = [name for name in warned if signs.loc[(signs["check"] == name) & ~signs["passed"], "near"].all()]
    names = [f"{name} (near its threshold)" if name in close else name for name in warned]
    besides = f"; near its threshold: {', '.join(near)}" if near else ""
    if warned:
        return Status(MASKED, f"at most {kept:.0f} % of clean; {', '.join(names)}{besides}")
    return Status(HOLDS, f"keeps {kept:.0f} % of clean{besides}")


def status_frame(
    verdicts: pd.DataFrame,
    masking: pd.DataFrame,
    undefended: str | None,
    confirmed: Mapping[tuple[str, str], str] | None = None,
    learnt: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """verdicts: `verdict_frame`; masking: `masking_frame`; undefended: `undefended_method`; confirmed: `second_versions`; learnt:
    `load_learnt`. A row per data set and method, by status and then by what is left in the worst case: dataset, group, method,
    label, status, note, flags (how many checks warn), confirmed (the second version of AutoAttack that attacked it, or empty),
    robust."""
    lines = []
    for (dataset, method), rows in verdicts.groupby(["dataset", "method"], sort=False):
        compared = verdicts[(verdicts["dataset"] == dataset) & (verdicts["method"] == undefended)]
        signs = masking[(masking["dataset"] == dataset) & (masking["method"] == method)]
        own = None if learnt is None else learnt[(learnt["dataset"] == dataset) & (learnt["method"] == method)]
        status, note = status_of(rows, compared, signs, own)
        kept = rows.loc[rows["attack"] == ROBUST, "measured"].iloc[0]
        second = (confirmed or {}).get((str(dataset), str(method)), "")
        flags = signs.loc[~signs["passed"], "check"].nunique()
        lines.append((dataset, rows["group"].iloc[0], method, rows["label"].iloc[0], status, note, flags, second, kept))
    columns = ["dataset", "group", "method", "label", "status", "note", "flags", "confirmed", ROBUST]
    table = pd.DataFrame(lines, columns=columns)
    places = {"dataset": list(dict.fromkeys(verdicts["dataset"])), "status": list(STATUSES)}
    table = table.assign(**{f"_{name}": table[name].map(order.index) for name, order in places.items()})
    table = table.sort_values(["_dataset", "_status", ROBUST], ascending=[True, True, False], kind="stable", ignore_index=True)
    return table.drop(columns=["_dataset", "_status"])
