"""What every method that was run keeps under the strongest attacks: the first table of the report, as frames and as Markdown."""

from typing import NamedTuple

import pandas as pd

from pipeline.reporting.judged import ADAPTIVE_SUITE, AUTOATTACK, AUTOATTACK_L2, ROBUST
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import LINF, NOISE, Strengths, at_strengths, first_present
from pipeline.reporting.tables import CELL, accuracy_rows, rounded

GROUPS = {
    "Undefended": ("softmax", "softmax_fs", "softmax_deep", "vgg"),
    "Loss on features": (
        *("center", "center_deep", "pcl", "pcl_1", "pcl_2", "pcl_3", "pcl_4", "pcl_5", "pcl_deep"),
        *("hcp", "hcp_fs", "hcp_m_p", "hcp_m_np", "hcp_p_np", "contrastive", "triplet"),
    ),
    "Loss on features + adversarial training": (
        *("pcl_at_fgsm", "pcl_at_pgd", "pcl_madry", "pcl_trades", "pcl_awp", "hcp_at", "hcp_madry", "hcp_trades", "hcp_awp"),
    ),
    "Adversarial training": ("at", "at_fgsm", "vgg_at_fgsm", "madry", "trades", "awp", "ema", "atda"),
    "Other defence": ("input_gradient", "adp"),
}
OTHER = "Other"
UNDEFENDED = ("softmax_fs", "softmax")  # the first that was run is what the others are compared with
MUST_STAY = 0.5  # of what the papers' strongest attack leaves, for a method to hold
COLUMNS = [
    *("dataset", "group", "method", "label", "attack", "eps", "metric", "measured", "images"),
    *("ci95_low", "ci95_high", "seeds", "seed_std", "chance"),
]
HOLDS, LOOKED, FALLS, UNTRAINED = "holds", "only looked robust", "does not hold", "does not learn"
STATUSES = {  # above, by the 95 % interval: chance and the undefended model
    HOLDS: "above chance and the undefended model in the worst case, and at least half of what the papers' attacks leave",
    LOOKED: "above chance and the undefended model under an attack of the papers, not in the worst case",
    FALLS: "no better than chance or the undefended model, and no attack of the papers made it look so",
    UNTRAINED: "at chance without any attack",
}


class Judgement(NamedTuple):
    """status: a key of STATUSES; note: a few words on it."""

    status: str
    note: str


def group_of(method: str) -> str:
    return next((group for group, methods in GROUPS.items() if method in methods), OTHER)


def verdict_frame(
    cells: pd.DataFrame, judged: pd.DataFrame, strengths: dict[str, Strengths], labels: dict[str, str]
) -> pd.DataFrame:
    """cells: `load_cells`; judged: `load_judged`. Clean accuracy, accuracy under every attack at the headline's strength, the worst
    cases (`adaptive`, `autoattack`, `autoattack_l2`, `robust`), and `noise`, the mean MSE of the noise measurement (stop rule
    `sample` if it was run). chance: % that always the same answer gets right."""
    worst = judged[judged["attack"].isin((ADAPTIVE_SUITE, AUTOATTACK, AUTOATTACK_L2, ROBUST))]
    rows = accuracy_rows(pd.concat([cells[at_strengths(cells, strengths, headline=True)], worst]))
    name = first_present(cells["attack"], f"{NOISE}sample", f"{NOISE}batch")
    noise = cells[cells["attack"] == name].groupby(CELL, sort=False).agg(measured=("mse", "mean"), images=("images", "first"))
    table = pd.concat([rows, noise.reset_index().assign(attack="noise", metric="mse")], ignore_index=True)
    table["chance"] = table["dataset"].map(cells[cells["attack"] == "clean"].groupby("dataset")["chance"].first())
    table["group"] = [group_of(method) for method in table["method"]]
    table["label"] = [labels.get(method, method) for method in table["method"]]
    places = {name: place for place, name in enumerate(method for methods in GROUPS.values() for method in methods)}
    order = {group: place for place, group in enumerate([*GROUPS, OTHER])}
    table["_dataset"] = table["dataset"].map({name: place for place, name in enumerate(strengths)})
    table["_group"], table["_method"] = table["group"].map(order), table["method"].map(places)
    table = table.sort_values(["_dataset", "_group", "_method"], kind="stable", ignore_index=True)
    return rounded(table.reindex(columns=COLUMNS), 4).astype({"images": "Int64", "seeds": "Int64"})


def summary(verdicts: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """verdicts: `verdict_frame` -> {dataset: {method: {"clean": %, attack: % at the headline's strength, "noise_mse": mean}}}."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for dataset, method, attack, value in verdicts[["dataset", "method", "attack", "measured"]].itertuples(index=False):
        name, digits = ("noise_mse", 4) if attack == "noise" else (attack, 2)
        result.setdefault(dataset, {}).setdefault(method, {})[name] = round(float(value), digits)
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
    return bool(row["ci95_low"] > max([row["chance"], *undefended.loc[undefended["attack"] == row["attack"], "ci95_high"]]))


def judge(rows: pd.DataFrame, undefended: pd.DataFrame) -> Judgement:
    """rows: one method's; undefended: those of the undefended model of the same data set, or none. Better means that the 95 %
    intervals lie apart."""
    clean, robust = row_of(rows, "clean"), row_of(rows, ROBUST)
    if clean is None or robust is None:
        raise ValueError(f"{rows['label'].iloc[0]} has no clean or no robust accuracy; run `dvc repro`")
    if clean["ci95_low"] <= clean["chance"]:
        return Judgement(UNTRAINED, f"{clean['measured']:.0f} % without any attack, chance is {clean['chance']:.0f} %")
    strongest = papers_attack(rows)
    if _above(robust, undefended) and (strongest is None or robust["measured"] >= MUST_STAY * strongest["measured"]):
        return Judgement(HOLDS, f"keeps {100 * robust['measured'] / clean['measured']:.0f} % of clean")
    papers = papers_rows(rows)
    shown = [(row["measured"], attack_text(row["attack"])) for _, row in papers.iterrows() if _above(row, undefended)]
    if not shown:
        return Judgement(FALLS, "")
    looked, attack = max(shown)
    return Judgement(LOOKED, f"{looked:.0f} % under {attack}")


def status_frame(verdicts: pd.DataFrame, masking: pd.DataFrame) -> pd.DataFrame:
    """verdicts: `verdict_frame`; masking: `masking_frame`. A row per data set and method, by status and then by what is left in the
    worst case: dataset, group, method, label, status, note, flags (how many signs of masked gradients), robust."""
    lines = []
    for (dataset, method), rows in verdicts.groupby(["dataset", "method"], sort=False):
        name = first_present(verdicts.loc[verdicts["dataset"] == dataset, "method"], *UNDEFENDED)
        undefended = verdicts[(verdicts["dataset"] == dataset) & (verdicts["method"] == name)]
        signs = masking[(masking["dataset"] == dataset) & (masking["method"] == method) & ~masking["passed"]]
        status, note = judge(rows, undefended)
        if status == HOLDS and len(signs):
            note += "; masked gradients?"
        kept = rows.loc[rows["attack"] == ROBUST, "measured"].iloc[0]
        flags = signs["check"].nunique()
        lines.append((dataset, rows["group"].iloc[0], method, rows["label"].iloc[0], status, note, flags, kept))
    table = pd.DataFrame(lines, columns=["dataset", "group", "method", "label", "status", "note", "flags", ROBUST])
    places = {"dataset": list(dict.fromkeys(verdicts["dataset"])), "status": list(STATUSES)}
    table = table.assign(**{f"_{name}": table[name].map(order.index) for name, order in places.items()})
    table = table.sort_values(["_dataset", "_status", ROBUST], ascending=[True, True, False], kind="stable", ignore_index=True)
    return table.drop(columns=["_dataset", "_status"])
