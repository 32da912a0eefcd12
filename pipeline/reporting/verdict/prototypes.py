"""The prototypes of each model as a second reading of it: classification by the nearest one (pcl eq. 7), and rejection of what lies
outside the hypersphere of the predicted class (hcp eq. 8-9). metrics/tables/prototypes.csv and a section of the report."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from pipeline.reporting.files import read_rows
from pipeline.reporting.markdown import labels_in_markdown, markdown_table, markdown_text
from pipeline.reporting.tables import rounded
from pipeline.reporting.verdict.outcomes import ROBUST

READ = ["image", "attack", "eps", "correct", "accepted", "layer"]
NEAREST, MEMBERSHIP = "nearest", "membership"
VALUES = [  # all in % of the test images, `right` in % of the accepted ones
    *("softmax", "softmax_robust", "nearest", "nearest_logits", "nearest_robust"),
    *("coverage", "right", "coverage_attacked", "right_attacked", "broken_logits", "broken"),
]
COLUMNS = ["dataset", "method", "label", "layer", "eps", "images", "seeds", *VALUES]
FEW = 50.0  # % of the clean images accepted: a rule that rejects more of them is of no use


def load_prototypes(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int]
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """folder: data/verdict. Outcomes by data set and method, a frame a seed; models without centres are left out."""
    files = {key: [folder.joinpath(*key, str(seed), "prototypes.parquet") for seed in seeds] for key in product(datasets, methods)}
    return {key: [read_rows(path, READ) for path in paths] for key, paths in files.items() if all(map(Path.is_file, paths))}


def figures(rows: pd.DataFrame) -> dict[str, float]:
    """Of one model: VALUES that follow from its prototypes, those of membership where it has radii, and where it accepts a clean
    image at all its values under attack."""
    of = {str(attack): own for attack, own in rows.groupby("attack")}
    images = len(of[f"{NEAREST}/clean"])

    def share(mask: pd.Series) -> float:
        return 100 * float(mask.sum()) / images

    def broken(attack: str) -> float:
        own = of.get(attack)
        return 0.0 if own is None else share(own["accepted"] & ~own["correct"])  # no image was left to it

    def before(rule: str) -> pd.Series:
        return of[f"{rule}/clean"]["accepted"] & ~of[f"{rule}/clean"]["correct"]

    def right(attack: str) -> float:
        accepted = of[attack]["accepted"]
        return 100 * float(of[attack]["correct"][accepted].mean()) if accepted.any() else float("nan")

    found = {
        NEAREST: share(of[f"{NEAREST}/clean"]["correct"]),
        "nearest_logits": 100 - share(before(NEAREST)) - broken(f"{NEAREST}/logits"),
        "nearest_robust": share(of[NEAREST]["correct"]),
    }
    if f"{MEMBERSHIP}/clean" in of:
        found |= {"coverage": share(of[f"{MEMBERSHIP}/clean"]["accepted"]), "right": right(f"{MEMBERSHIP}/clean")}
    if MEMBERSHIP in of:
        found |= {
            "coverage_attacked": share(of[MEMBERSHIP]["accepted"]),
            "right_attacked": right(MEMBERSHIP),
            "broken_logits": share(before(MEMBERSHIP)) + broken(f"{MEMBERSHIP}/logits"),
            "broken": broken(MEMBERSHIP),
        }
    return found


def prototypes_frame(
    found: dict[tuple[str, str], list[pd.DataFrame]], verdicts: pd.DataFrame, labels: dict[str, str]
) -> pd.DataFrame:
    """COLUMNS, a row per data set and method, mean over seeds. found: `load_prototypes`, verdicts: `verdict_frame`."""
    softmax = verdicts.set_index(["dataset", "method", "attack"])["measured"]
    lines = []
    for (dataset, method), seeds in found.items():
        worst = seeds[0][seeds[0]["attack"] == NEAREST]
        about = {"dataset": dataset, "method": method, "label": labels[method], "layer": worst["layer"].iloc[0]}
        about |= {"eps": worst["eps"].iloc[0], "images": len(worst), "seeds": len(seeds)}
        own = {"softmax": softmax[dataset, method, "clean"], "softmax_robust": softmax[dataset, method, ROBUST]}
        lines.append({**about, **own, **pd.DataFrame([figures(rows) for rows in seeds]).mean()})
    return rounded(pd.DataFrame(lines, columns=COLUMNS), 4)


def prototypes_markdown(table: pd.DataFrame) -> str:
    """table: `prototypes_frame`, or what is read from its file."""
    parts = ["## Prototypes as classifiers", TEXT]
    if table.empty:
        return "\n\n".join([*parts, "No method of the run has class centres."])
    for dataset, rows in table.groupby("dataset", sort=False):
        half = 196 * 0.5 / float(rows["images"].iloc[0]) ** 0.5
        parts.append(f"### {dataset}, l-inf eps {rows['eps'].iloc[0]:g}")
        parts.append(
            f"In % of {rows['images'].iloc[0]} test images, 95 % interval at most ± {half:.1f}; *of the accepted*: in % of fewer "
            "images, and less certain."
        )
        parts += ["\n".join(findings(rows)), "**Nearest prototype** (PCL eq. 7)", _shown(rows, NEAREST_HEAD)]
        if len(radii := rows[rows["coverage"].notna()]):
            parts += ["**Membership** (HCP eq. 8-9)", _shown(radii, MEMBERSHIP_HEAD)]
    return "\n\n".join(parts)


TEXT = (
    "What the papers' prototypes are for, read from the same models. *Nearest prototype*: the class whose centre is nearest, on "
    "the last layer that has centres. *Membership*: the prediction of softmax is accepted where d <= r² of the predicted class, d "
    "being the distance of the loss, else the image is rejected; an image is broken when the answer is wrong and accepted. Neither "
    "paper publishes figures for these. An attack on the logits says nothing of such a rule, so each is attacked through the "
    "distances: APGD on cross entropy of -d², on the ratio of the distances and, targeted, on DLR of -d²; membership by APGD that "
    "lowers what a wrong class lacks to be predicted and accepted. `attack on the logits`: maximises the cross entropy of "
    "softmax until the rule is broken. Softmax, robust: as in the verdict."
)
NEAREST_HEAD = {
    "softmax": "softmax, clean",
    "nearest": "nearest, clean",
    "softmax_robust": "softmax, robust",
    "nearest_logits": "nearest, attack on the logits",
    "nearest_robust": "nearest, robust",
}
MEMBERSHIP_HEAD = {
    "coverage": "clean: accepted",
    "right": "clean: right, of the accepted",
    "coverage_attacked": "attacked: accepted",
    "right_attacked": "attacked: right, of the accepted",
    "broken_logits": "broken, attack on the logits",
    "broken": "broken",
}


def _shown(rows: pd.DataFrame, head: dict[str, str]) -> str:
    values = rows[list(head)].rename(columns=head).map(lambda value: "-" if pd.isna(value) else f"{value:.1f}")
    values.insert(0, "layer", rows["layer"])
    values.insert(0, "method", labels_in_markdown(rows)["label"])
    return markdown_table(values)


def findings(rows: pd.DataFrame) -> list[str]:
    """Of one data set, as a list in Markdown."""
    lines = [
        f"- Clean accuracy by the nearest prototype less softmax's: {_span(rows, rows['nearest'] - rows['softmax'])} points; the "
        "PCL paper says that the two agree.",
        f"- Robust accuracy by it, under an attack on the distances alone: {_span(rows, rows['nearest_robust'], '.1f')} %. "
        "Softmax's is under more attacks than that, so a few points between the two say nothing.",
    ]
    if len(radii := rows[rows["coverage"].notna()]):
        few, accepted, broken = (radii["coverage"] < FEW).sum(), radii["coverage"], radii["broken"].dropna()
        none = f", and none on {len(radii) - len(broken)}, where there is nothing to attack" if len(broken) < len(radii) else ""
        lines.append(
            f"- Membership accepts {accepted.min():.1f} to {accepted.max():.1f} % of the clean images, less than {FEW:.0f} % on "
            f"{few} of {len(radii)} models{none}."
        )
        if len(broken):
            ends = f"{broken.min():.1f} to {broken.max():.1f} %"
            lines.append(f"- An attack that aims at being accepted makes {ends} of the images wrong and accepted.")
    return lines


def _span(rows: pd.DataFrame, values: pd.Series, form: str = "+.1f") -> str:
    ordered = values.sort_values(kind="stable")
    ends = [f"{ordered.iloc[end]:{form}} ({markdown_text(str(rows['label'][ordered.index[end]]))})" for end in (0, -1)]
    return " to ".join(ends)
