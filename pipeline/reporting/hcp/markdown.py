"""Tables 1-4 of the hcp paper as Markdown, each laid out as in the paper."""

import pandas as pd

from pipeline.reporting.markdown import NOT_THE_WORST, grid, methods_by, name_attack, published_text, run_text, value_text

TITLES = {
    1: "Table 1: clean accuracy",
    2: "Table 2: accuracy under attack",
    3: "Table 3: noise that an unbounded attack needs",
    4: "Table 4: loss terms and adversarial training",
}
ACCURACY_LEGEND = (
    "A cell is the accuracy in % with its 95 % Wilson interval (images of one seed), then the published value and measured minus "
    "published where the paper has the data set and eps. Best of a column bold."
)
LEGENDS = {
    1: ACCURACY_LEGEND,
    2: f"{ACCURACY_LEGEND} {NOT_THE_WORST}",
    3: (
        "MIM without any bound but the image range. A cell is the mean over the images of the squared perturbation per pixel ± its "
        "standard deviation, then the share of images that were fooled. `sample`: an image is left alone once it is misclassified. "
        "`batch`: the authors' way, all images of a batch are attacked until all are misclassified, so a stubborn image adds noise "
        "to the others, the mean depends on the batch and has no interval; the published value stands next to it. ≥: not every "
        "image was fooled, so the mean is a lower bound. More noise needed is better; largest mean of a column bold."
    ),
    4: f"{ACCURACY_LEGEND} {NOT_THE_WORST} M, P and NP are the three terms of the HCP loss; HCP (SM) has all of them.",
}


def noise_text(row: pd.Series) -> str:
    """`≥ 0.1210 ± 0.0300, 99 % fooled (paper 0.2 ± 0.04, -0.079)`."""
    bound = "≥ " if row["fooled"] < 100 else ""
    text = f"{bound}{row['measured']:.4f} ± {row['std']:.4f}, {row['fooled']:.5g} % fooled"
    if pd.isna(row["published"]):
        return text
    return f"{text} (paper {row['published']:g} ± {row['published_std']:g}, {row['difference']:+.3f})"


def measured_part(number: int, table: pd.DataFrame) -> list[str]:
    """Table 1: a column per data set; 2: a table per data set and eps; 3 and 4: a table per data set."""
    if number == 1:
        return [methods_by(table, table["dataset"], "measured", value_text)]
    parts = []
    for dataset, rows in table.groupby("dataset", sort=False):
        if number == 2:
            for eps, same_eps in rows.groupby("eps"):
                parts += [
                    f"### {dataset}, eps {eps:g}",
                    methods_by(same_eps, same_eps["attack"].str.upper(), "measured", value_text),
                ]
        elif number == 3:
            parts += [f"### {dataset}", methods_by(rows, "stop: " + rows["stop"], "measured", noise_text)]
        else:
            names = pd.Series([name_attack(a, e) for a, e in zip(rows["attack"], rows["eps"], strict=True)], index=rows.index)
            parts += [f"### {dataset}", methods_by(rows, names, "measured", value_text)]
    return parts


def published_part(number: int, table: pd.DataFrame) -> list[str]:
    """The published values that this run has nothing to put beside."""
    if table.empty:
        return []
    pairs = zip(table["dataset"], table["attack"], table["eps"], strict=True)
    names = [d if number in (1, 3) else f"{d} {name_attack(a, e)}" for d, a, e in pairs]
    columns = pd.Series(names, index=table.index)  # without bold: what is best in print may be among the measured
    cells = grid(table, lines=table["label"], columns=columns, value="published", text=published_text, best=None)
    return ["### Published, not measured here", cells]


def hcp_table_markdown(number: int, table: pd.DataFrame, schedule: str) -> str:
    """table: `hcp_tables`; schedule: `schedule_text`. One table with its heading."""
    measured, rest = table[table["measured"].notna()], table[table["measured"].isna()]
    head = (
        [f"## HCP {TITLES[number]}", run_text(measured, schedule), LEGENDS[number]]
        if len(measured)
        else [f"## HCP {TITLES[number]}"]
    )
    body = measured_part(number, measured) if len(measured) else ["Nothing measured in this run."]
    return "\n\n".join(head + body + published_part(number, rest)) + "\n"
