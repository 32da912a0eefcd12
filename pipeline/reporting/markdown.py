"""Tables as Markdown, laid out as in the paper: measured value, interval, published value; best of a column bold. The layout of
the hcp tables is here, that of the pcl tables in pcl_markdown.py."""

import re
from collections.abc import Callable

import pandas as pd

from pipeline.reporting.outcomes import ADAPTIVE, CW

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
NOT_THE_WORST = "These are the paper's attacks; what the strongest leave stands in the verdict, the report's first table."
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


def markdown_text(text: str) -> str:
    """`text` as it is printed, in Markdown: no cell ends in it and no tag begins, save the few that tables are written with."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text.replace("|", "\\|"))
    return re.sub(r"<(?!br>|/?u>)", "&lt;", text)


def markdown_table(rows: pd.DataFrame) -> str:
    """Text cells only, header = column names."""
    shown = rows.astype(str).map(markdown_text).rename(columns=markdown_text)
    return str(shown.to_markdown(index=False, disable_numparse=True))


def attack_text(attack: str) -> str:
    """`PGD`, `C&W`, `PGD, adaptive`."""
    name = attack.removeprefix(ADAPTIVE)
    text = "C&W" if name == CW else name.upper()
    return text if name == attack else f"{text}, adaptive"


def name_attack(attack: str, eps: float) -> str:
    if attack == "clean":
        return "clean"
    return f"{attack_text(attack)}, {'c' if attack == CW else 'eps'} {eps:g}"


def interval_text(row: pd.Series) -> str:
    """`44.0 [39.0, 49.0]`; with several seeds `44.0 ± 0.8 [39.0, 49.0]`, the std over seeds."""
    spread = f" ± {row['seed_std']:.1f}" if row["seeds"] > 1 else ""
    return f"{row['measured']:.1f}{spread} [{row['ci95_low']:.1f}, {row['ci95_high']:.1f}]"


def value_text(row: pd.Series) -> str:
    """`44.0 [39.0, 49.0] (paper 50.00, -6.0)`."""
    text = interval_text(row)
    return text if pd.isna(row["published"]) else f"{text} (paper {row['published']:.2f}, {row['difference']:+.1f})"


def noise_text(row: pd.Series) -> str:
    """`≥ 0.1210 ± 0.0300, 99 % fooled (paper 0.2 ± 0.04, -0.079)`."""
    bound = "≥ " if row["fooled"] < 100 else ""
    text = f"{bound}{row['measured']:.4f} ± {row['std']:.4f}, {row['fooled']:.5g} % fooled"
    if pd.isna(row["published"]):
        return text
    return f"{text} (paper {row['published']:g} ± {row['published_std']:g}, {row['difference']:+.3f})"


def published_text(row: pd.Series) -> str:
    if row["metric"] == "mse":
        return f"{row['published']:g} ± {row['published_std']:g}"
    return f"{row['published']:.2f}"


def grid(
    rows: pd.DataFrame,
    *,
    lines: pd.Series,
    columns: pd.Series,
    value: str,
    text: Callable[[pd.Series], str],
    best: pd.Series | None,
    head: str = "method",
) -> str:
    """`rows` as a table: `lines` and `columns` name the line and the column of each of them, in order of appearance. Where rows
    have the same name in `best`, the one with the largest `value` is bold, unless they tie."""
    cells: dict[str, dict[str, str]] = {name: {head: name} for name in dict.fromkeys(lines)}
    bold = pd.Series(False, index=rows.index)
    if best is not None:
        values = rows.groupby(best)[value]
        bold = (values.transform("max") == rows[value]) & (values.transform("min") != rows[value])
    for (_, row), line, column, is_bold in zip(rows.iterrows(), lines, columns, bold, strict=True):
        if column in cells[line]:
            raise ValueError(f"two values for {line}, {column}; have two methods the same name under `labels` in params.yaml?")
        cells[line][column] = f"**{text(row)}**" if is_bold else text(row)
    names = [head, *dict.fromkeys(columns)]
    return markdown_table(pd.DataFrame(list(cells.values())).reindex(columns=names).astype(object).fillna("-"))


def methods_by(rows: pd.DataFrame, columns: pd.Series, value: str, text: Callable[[pd.Series], str]) -> str:
    """A line per method, a column per name in `columns`, the best of a column bold."""
    return grid(rows, lines=rows["label"], columns=columns, value=value, text=text, best=columns)


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
    return ["### Published, not measured here", methods_by(table, pd.Series(names, index=table.index), "published", published_text)]


def schedule_text(epochs: dict[str, dict[str, int]], paper: dict[str, dict[str, int]]) -> str:
    """epochs: {data set: {name: ours}}; paper: {name: {data set or `all`: its}}, `published_epochs`. For a data set that the paper
    does not have, its shortest schedule counts."""
    shared: dict[str, list[str]] = {}
    for dataset, named in epochs.items():
        shared.setdefault(", ".join(f"{named[name]} {name}" for name in paper if name in named), []).append(dataset)
    ours = "; ".join(f"{text} ({', '.join(datasets)})" for text, datasets in shared.items())
    theirs = ", ".join(f"{_lengths(lengths)} {name}" for name, lengths in paper.items())
    full = all(
        named.get(name, 0) >= lengths.get(dataset, lengths.get("all", min(lengths.values())))
        for dataset, named in epochs.items()
        for name, lengths in paper.items()
    )
    verdict = "the paper's length" if full else "reduced against the paper, so a lower value here does not refute it"
    return f"Epochs: {ours}; the paper {theirs}: {verdict}."


def _lengths(lengths: dict[str, int]) -> str:
    """`200`, or `50 (mnist) or 200 (cifar10, svhn)`."""
    shared: dict[int, list[str]] = {}
    for dataset, n in lengths.items():
        shared.setdefault(n, []).append(dataset)
    return " or ".join(str(n) if datasets == ["all"] else f"{n} ({', '.join(datasets)})" for n, datasets in shared.items())


def run_text(table: pd.DataFrame, schedule: str) -> str:
    """The line above a table: data sets with their images, seeds, schedule."""
    images = ", ".join(f"{dataset} ({rows['images'].max()} test images)" for dataset, rows in table.groupby("dataset", sort=False))
    seeds = int(table["seeds"].max())
    spread = "; ±: standard deviation over the seeds" if seeds > 1 and (table["metric"] == "accuracy").all() else ""
    return f"Measured: {images}; {seeds} seed{'s' if seeds > 1 else ''}{spread}. {schedule}"


def hcp_table_markdown(number: int, table: pd.DataFrame, schedule: str) -> str:
    """table: `hcp_tables`; schedule: `schedule_text`. A whole .md file."""
    measured, rest = table[table["measured"].notna()], table[table["measured"].isna()]
    head = (
        [f"## HCP {TITLES[number]}", run_text(measured, schedule), LEGENDS[number]]
        if len(measured)
        else [f"## HCP {TITLES[number]}"]
    )
    body = measured_part(number, measured) if len(measured) else ["Nothing measured in this run."]
    return "\n\n".join(head + body + published_part(number, rest)) + "\n"
