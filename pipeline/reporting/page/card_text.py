"""What stands on a model's card besides its picture (verdict/cards.py): its numbers, what each attack broke, its masking checks."""

import pandas as pd

from pipeline.reporting.markdown import interval_text, markdown_table, markdown_text
from pipeline.reporting.outcomes import CW
from pipeline.reporting.verdict.lines import SUITES, Line, Verdict, attack_name
from pipeline.reporting.verdict.status import next_step

BESIDES = (CW, "noise")  # neither in the verdict table nor in that of what each attack broke


def card_picture(verdict: Verdict, line: Line) -> str:
    """The picture, a file below metrics/, as Markdown."""
    what = "accuracy against eps, what each attack broke, noise, principal components of the features, worst examples"
    return f"![{markdown_text(line.label)}: {what}](cards/{verdict.dataset}/{line.method}.png)"


def besides_text(rows: pd.DataFrame) -> str:
    """C&W and the noise measurement in one line. rows: one method's of verdict.csv."""
    parts = []
    for _, row in rows[rows["attack"].isin(BESIDES)].iterrows():
        attack = str(row["attack"])
        if attack == "noise":
            parts.append(f"mean noise that fools an image, MSE {row['measured']:.4f}")
        else:
            what = f"{attack_name(attack)} (no bound on the change; c {row['eps']:g}, {row['images']:.0f} images)"
            parts.append(f"{what} {interval_text(row)} %")
    return f"Besides: {'; '.join(parts)}." if parts else ""


def broken_table(rows: pd.DataFrame) -> str:
    """rows: one method's of broken.csv. A suite is named on its first line."""
    lines = []
    for (suite, eps), own in rows.groupby(["suite", "eps"], sort=False):
        name = f"{SUITES.get(str(suite), str(suite))}, eps {eps:g}"
        for attack, broken, left in own[["attack", "broken", "left"]].itertuples(index=False):
            numbers = {"broken, %": f"{broken:.1f}", "left, %": f"{left:.1f}"}
            lines.append({"suite": name, "attack": attack_name(str(attack)), **numbers})
            name = ""
    return markdown_table(pd.DataFrame(lines)) if lines else "No attack was measured."


def masking_table(rows: pd.DataFrame) -> str:
    """rows: one method's of masking.csv; a column for the seed where there are several."""
    several = rows["seed"].nunique() > 1
    lines = []
    for _, row in rows.iterrows():
        value, threshold = (f"{row[name]:.4g} {row['unit']}" for name in ("value", "threshold"))
        near = ", near the threshold: more images would tell" if row["near"] else ""
        result = f"{'pass' if row['passed'] else '**warn**'}{near}"
        line = {"check": f"{row['check']}: {row['what']}", "value": value, "threshold": threshold}
        lines.append({**({"seed": str(row["seed"])} if several else {}), **line, "result": result})
    return markdown_table(pd.DataFrame(lines)) if lines else "No check was made."


def card_body(verdict: Verdict, line: Line, tables: dict[str, pd.DataFrame]) -> str:
    """tables: verdict.csv, broken.csv and masking.csv."""
    own = {n: table[(table["dataset"] == verdict.dataset) & (table["method"] == line.method)] for n, table in tables.items()}
    parts = [
        markdown_text(f"{line.group}; {line.status}{f', {line.note}' if line.note else ''}."),
        *filter(None, [besides_text(own["verdict"])]),
    ]
    parts.append("**What each attack broke.** AutoAttack's parts run in this order, each on the images that earlier parts left.")
    parts.append(broken_table(own["broken"]))
    parts.append(f"**Checks for masked gradients**, {line.flags or 'none'} of which {'warn' if line.flags != 1 else 'warns'}.")
    parts.append(masking_table(own["masking"]))
    parts.append(f"**To try next:** {next_step(line.status, line.group)}.")
    parts.append(f"[Back to the verdict](#{verdict.anchor})")
    return "\n\n".join(parts)
