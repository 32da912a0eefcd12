"""What every method that was run keeps: metrics/summary.json, metrics/tables/verdict.csv and .md, the first table of the report."""

import pandas as pd

from pipeline.reporting.markdown import attack_text, interval_text, markdown_table
from pipeline.reporting.outcomes import CW, NOISE, Strengths, at_strengths, first_present
from pipeline.reporting.tables import CELL, accuracy_rows, rounded

PROTOTYPES = "Losses on features, no adversarial training"
TRAINED = "Losses on features with adversarial training"
GROUPS = {
    "Undefended": ("softmax", "softmax_fs", "softmax_deep", "vgg"),
    PROTOTYPES: (
        *("center", "center_deep", "pcl", "pcl_1", "pcl_2", "pcl_3", "pcl_4", "pcl_5", "pcl_deep"),
        *("hcp", "hcp_fs", "hcp_m_p", "hcp_m_np", "hcp_p_np", "contrastive", "triplet"),
    ),
    TRAINED: ("pcl_at_fgsm", "pcl_at_pgd", "hcp_at"),
    "Adversarial training and other baselines": (
        *("at", "at_fgsm", "vgg_at_fgsm", "madry", "atda", "input_gradient", "adp", "yu"),
    ),
}
OTHER = "Other methods"
COLUMNS = [
    *("dataset", "group", "method", "label", "attack", "eps", "metric", "measured", "images"),
    *("ci95_low", "ci95_high", "seeds", "seed_std", "chance"),
]
COLLAPSES, UNTRAINED, KEEPS = "collapses", "at chance level without any attack", "keeps"


def group_of(method: str) -> str:
    return next((group for group, methods in GROUPS.items() if method in methods), OTHER)


def verdict_frame(cells: pd.DataFrame, strengths: dict[str, Strengths], labels: dict[str, str]) -> pd.DataFrame:
    """cells: `load_cells`. Clean accuracy, accuracy under every attack at the headline's strength, and `noise`, the mean MSE of the
    noise measurement (stop rule `sample` if it was run); methods by group. chance: % that always the same answer gets right."""
    rows = accuracy_rows(cells[at_strengths(cells, strengths, headline=True)])
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


def strongest(rows: pd.DataFrame) -> pd.Series | None:
    """rows: one method's. The l-inf attack that leaves least, adaptive ones among them; C&W has no bound to compare at."""
    attacks = rows[~rows["attack"].isin(("clean", "noise", CW))]
    return None if attacks.empty else attacks.sort_values("measured", kind="stable").iloc[0]


def judge(clean: pd.Series, worst: pd.Series | None) -> str:
    """A lower end of the interval at or below chance is no better than chance."""
    if clean["ci95_low"] <= clean["chance"]:
        return UNTRAINED
    if worst is None:
        return "-"
    if worst["ci95_low"] <= worst["chance"]:
        return COLLAPSES
    return f"{KEEPS} {100 * worst['measured'] / clean['measured']:.0f} % of its clean accuracy"


def method_row(rows: pd.DataFrame) -> dict[str, str]:
    """A line of the table from one method's rows."""
    clean, cw, noise = (next((row for _, row in rows[rows["attack"] == name].iterrows()), None) for name in ("clean", CW, "noise"))
    worst = strongest(rows)
    verdict = "-" if clean is None else judge(clean, worst)
    return {
        "method": str(rows["label"].iloc[0]),
        "clean": "-" if clean is None else interval_text(clean),
        "strongest attack": "-" if worst is None else f"{interval_text(worst)} ({attack_text(worst['attack'])})",
        "C&W": "-" if cw is None else interval_text(cw),
        "noise MSE": "-" if noise is None else f"{noise['measured']:.4f}",
        "verdict": verdict if verdict.startswith((KEEPS, "-")) else f"**{verdict}**",
    }


def collapse_text(rows: pd.DataFrame) -> str:
    """rows: one data set's. How many methods of each group fall to chance."""
    parts = []
    for group, own in rows.groupby("group", sort=False):
        verdicts = [method_row(method)["verdict"] for _, method in own.groupby("method", sort=False)]
        fallen = sum(COLLAPSES in verdict or UNTRAINED in verdict for verdict in verdicts)
        parts.append(f"{str(group).lower()}: {fallen} of {len(verdicts)}")
    return "No better than chance under the strongest attack - " + "; ".join(parts) + "."


def verdict_markdown(verdicts: pd.DataFrame, strengths: dict[str, Strengths]) -> str:
    """verdicts: `verdict_frame`. A whole .md file, a table per data set with the groups as bold lines."""
    parts = [
        "## In short",
        "Every method that was run, accuracy in % with its 95 % interval. *Strongest attack*: the l-inf attack that leaves least, "
        "chosen per method among all that were measured at the eps given, those that know the prototypes (adaptive) included. "
        "*Noise MSE*: what the unbounded attack of HCP table 3 needs. **Collapses**: no better than one answer for all.",
    ]
    for dataset, rows in verdicts.groupby("dataset", sort=False):
        own, cw = strengths[str(dataset)], rows.loc[rows["attack"] == CW, "images"]
        images = rows.loc[rows["attack"] == "clean", "images"].iloc[0]
        c = f"; C&W with c {own.headline_c:g} on the first {cw.iloc[0]}" if len(cw) else ""
        chance = rows["chance"].iloc[0]
        parts.append(f"### {dataset}, eps {own.headline_eps:g}")
        parts.append(f"{images} test images{c}. Chance: {chance:.1f} %. {collapse_text(rows)}")
        lines: list[dict[str, str]] = []
        for group, members in rows.groupby("group", sort=False):
            lines += [{"method": f"**{group}**"}, *(method_row(method) for _, method in members.groupby("method", sort=False))]
        parts.append(markdown_table(pd.DataFrame(lines).fillna("")))
    return "\n\n".join(parts) + "\n"
