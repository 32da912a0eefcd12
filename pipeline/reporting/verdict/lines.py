"""The first table of the report: what every method keeps under the paper's attack, an adaptive one and AutoAttack, by status.
From metrics/tables/verdict.csv and verdict_status.csv; one source for the page and for its Markdown."""

import re
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.markdown import attack_text, interval_text, markdown_table, markdown_text
from pipeline.reporting.verdict.status import STATUSES, papers_attack, row_of

SYMBOLS = dict(zip(STATUSES, ("✓", "?", "!", "✗", "○"), strict=True))  # beside the words: a status is never told by colour alone
COLUMNS = ("clean", "paper's attack", "adaptive", "AutoAttack", "robust")
SUITES = {"paper": "paper", "autoattack": "AutoAttack", "autoattack_l2": "AutoAttack, l2", "adaptive": "adaptive"}
NAMES = {
    "apgd_ce": "APGD-CE",
    "apgd_t": "APGD-T",
    "fab_t": "FAB-T",
    "square": "Square",
    "dlr": "APGD, DLR",
    "ce": "APGD, cross entropy",
    "joint": "APGD, joint loss",
    "joint_t": "APGD-T, joint loss",
    "features": "APGD, features",
    "sibling": "MIM, transferred",
    "log": "APGD, log of the outputs",
    "rescaled": "APGD, rescaled logits",
    "bpda": "APGD, straight through (BPDA)",
    "eot": "PGD, mean over draws (EOT)",
    "spsa": "SPSA",
    "adaptive": "adaptive",
    "autoattack": "AutoAttack",
    "autoattack_l2": "AutoAttack, l2",
    "unbounded": "PGD, unbounded",
    "noise": "noise",
}


class Cell(NamedTuple):
    """An accuracy in %, as text with its interval and, over several seeds, its spread."""

    value: float
    text: str
    interval: str
    coarse: str  # the interval where there is little room
    markdown: str


class Line(NamedTuple):
    method: str
    label: str
    group: str
    anchor: str  # of the model's card
    status: str
    note: str
    flags: int
    confirmed: str  # a second version of AutoAttack that attacked it, or empty
    cells: dict[str, Cell]  # by column; one that was not measured is missing


class Verdict(NamedTuple):
    dataset: str
    eps: float
    images: int
    chance: float
    lines: list[Line]
    norm: str = "l-inf"

    @property
    def anchor(self) -> str:
        return anchor("verdict", self.dataset)

    def by_status(self) -> dict[str, list[Line]]:
        """Statuses that no method has are left out."""
        groups = {status: [line for line in self.lines if line.status == status] for status in STATUSES}
        return {status: lines for status, lines in groups.items() if lines}


def anchor(*names: object) -> str:
    """An id for links."""
    return re.sub(r"[^a-z0-9_]+", "-", "-".join(map(str, names)).lower()).strip("-")


def attack_name(attack: str) -> str:
    """`APGD-T` for apgd_t or autoattack/apgd_t, `APGD-T, standard` for autoattack/standard/apgd_t, `PGD, 10 steps` for steps/10."""
    suite, _, part = attack.rpartition("/")
    if suite == "steps":
        return f"PGD, {part} step{'' if part == '1' else 's'}"
    version = suite.partition("/")[2]  # a second one of AutoAttack
    return NAMES.get(part, attack_text(part)) + (f", {version}" if version else "")


def cell(row: pd.Series) -> Cell:
    spread = f" ± {row['seed_std']:.1f}" if row["seeds"] > 1 else ""
    return Cell(
        float(row["measured"]),
        f"{row['measured']:.1f}{spread}",
        f"{row['ci95_low']:.1f}-{row['ci95_high']:.1f}",
        f"{row['ci95_low']:.0f}-{row['ci95_high']:.0f}",
        interval_text(row),
    )


def cells_of(rows: pd.DataFrame) -> dict[str, Cell]:
    """rows: one method's of verdict.csv."""
    wanted = {"clean": "clean", "adaptive": "adaptive", "AutoAttack": "autoattack", "robust": "robust"}
    found = {column: row_of(rows, attack) for column, attack in wanted.items()} | {"paper's attack": papers_attack(rows)}
    return {column: cell(row) for column, row in found.items() if row is not None}


def verdict_of(dataset: str, rows: pd.DataFrame, status: pd.DataFrame, eps: float) -> Verdict:
    """rows, status: one data set's of verdict.csv and verdict_status.csv, whose order this is."""
    lines = []
    for _, own in status.iterrows():
        method = str(own["method"])
        if own["status"] not in STATUSES:
            raise ValueError(f"verdict_status.csv: unknown status {own['status']!r}, choose from {', '.join(STATUSES)}")
        cells = cells_of(rows[rows["method"] == method])
        line = Line(
            method=method,
            label=str(own["label"]),
            group=str(own["group"]),
            anchor=anchor("card", dataset, method),
            status=str(own["status"]),
            note=str(own["note"]),
            flags=int(own["flags"]),
            confirmed=str(own["confirmed"]),
            cells=cells,
        )
        lines.append(line)
    clean = rows[rows["attack"] == "clean"]
    return Verdict(dataset, eps, int(clean["images"].max()), float(clean["chance"].iloc[0]), lines)


def verdicts(table: pd.DataFrame, status: pd.DataFrame, headline_eps: dict[str, float]) -> list[Verdict]:
    """table: verdict.csv, status: verdict_status.csv; headline_eps: by data set of the run. Raises ValueError for a data set that
    they do not have."""
    result = []
    for dataset, eps in headline_eps.items():
        rows, statuses = table[table["dataset"] == dataset], status[status["dataset"] == dataset]
        if rows.empty or statuses.empty:
            raise ValueError(f"metrics/tables/verdict.csv and verdict_status.csv have no {dataset}; run `dvc repro tables`")
        result.append(verdict_of(dataset, rows, statuses.astype({"confirmed": object}).fillna({"note": "", "confirmed": ""}), eps))
    return result


def heading(verdict: Verdict) -> str:
    return f"Verdict: {verdict.dataset}, {verdict.norm} eps {verdict.eps:g}"


def lead(verdict: Verdict) -> str:
    """What stands above the table."""
    return (
        f"{verdict.images} test images. Robust: the worst case per image over all attacks. Chance (always predicting one class): "
        f"{verdict.chance:.1f} %."
    )


def caption(verdict: Verdict, autoattack: str) -> str:
    """What the columns mean; autoattack: which version of it."""
    how = "as published" if autoattack == "standard" else "weaker than the standard version, docs/autoattack.md says by how much"
    second: dict[str, list[str]] = {}
    for line in verdict.lines:
        if line.confirmed:
            second.setdefault(line.confirmed, []).append(line.label)
    more = "".join(
        f"; then {version} on what it had left, where that was more than chance: {', '.join(labels)}"
        for version, labels in second.items()
    )
    return (
        "Accuracy in % with its 95 % interval. Paper's attack: the strongest of FGSM, BIM, MIM and PGD. Adaptive: white-box "
        "attacks on the features and prototypes as well, and further ones (such as BPDA, EOT) where gradients look masked. "
        "Models with prototypes get more adaptive attacks, so compare methods by AutoAttack, the same for all. "
        f"AutoAttack: {autoattack}, {how}{more}. Robust: right on the test image and on "
        "every adversarial example within this eps of it, from any attack and any source model. Flags: checks for masked "
        'gradients that warn; the card of the model has them. "Only looked robust" without a flag is no contradiction: the '
        "gradient may be correct, and the papers' attacks too weak."
    )


def verdict_markdown(verdict: Verdict, autoattack: str) -> str:
    """Heading, which method has which status, the table and what its columns mean."""
    names = []
    for status, lines in verdict.by_status().items():
        labels = ", ".join(markdown_text(line.label) for line in lines)
        names.append(f"- {SYMBOLS[status]} **{status}** ({len(lines)}; {STATUSES[status]}): {labels}")
    rows = []
    for line in verdict.lines:
        values = {column: line.cells[column].markdown if column in line.cells else "-" for column in COLUMNS}
        values["robust"] = f"**{values['robust']}**"
        status = f"{SYMBOLS[line.status]} {line.status}" + (f": {line.note}" if line.note else "")
        rows.append(
            {"method": f"[{markdown_text(line.label)}](#{line.anchor})", "status": status, **values, "flags": str(line.flags)}
        )
    table = pd.DataFrame(rows).rename(columns={"AutoAttack": f"AutoAttack ({autoattack})"})
    parts = [f"## {heading(verdict)}", lead(verdict), "\n".join(names), markdown_table(table)]
    parts.append(markdown_text(caption(verdict, autoattack)))
    return "\n\n".join(parts)
