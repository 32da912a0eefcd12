"""Tables as Markdown, laid out as in the paper: measured value, interval, published value; best of a column bold. What both
papers' tables share."""

import re
from collections.abc import Callable, Mapping

import pandas as pd

from pipeline.reporting.outcomes import ADAPTIVE, CW

NOT_THE_WORST = "These are the paper's attacks; what the strongest leave stands in the verdict, the report's first table."


def markdown_text(text: str) -> str:
    """Any text, in Markdown, as it is printed: one line without tag, link, picture, formula or the end of a cell."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", re.sub(r"\s+", " ", text)).replace("<", "&lt;")
    return re.sub(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)  # a _ within a word is one


def labels_in_markdown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table whose column label is to be printed."""
    return rows.assign(label=rows["label"].astype(str).map(markdown_text))


def names_in_markdown(names: Mapping[str, str]) -> dict[str, str]:
    """Labels by whatever."""
    return {key: markdown_text(name) for key, name in names.items()}


def markdown_table(rows: pd.DataFrame) -> str:
    """Cells and header (the column names) in Markdown; no cell ends before its time, no tag begins that tables are not written
    with."""
    shown = rows.astype(str).map(_cell).rename(columns=_cell)
    return str(shown.to_markdown(index=False, disable_numparse=True))


def _cell(text: str) -> str:
    return re.sub(r"<(?!br>|/?u>)", "&lt;", re.sub(r"(?<!\\)\|", r"\\|", text))


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
            raise ValueError(f"two values for {line}, {column}; have two methods the same label?")
        cells[line][column] = f"**{text(row)}**" if is_bold else text(row)
    names = [head, *dict.fromkeys(columns)]
    return markdown_table(pd.DataFrame(list(cells.values())).reindex(columns=names).astype(object).fillna("-"))


def methods_by(rows: pd.DataFrame, columns: pd.Series, value: str, text: Callable[[pd.Series], str]) -> str:
    """A line per method, a column per name in `columns`, the best of a column bold."""
    return grid(rows, lines=rows["label"], columns=columns, value=value, text=text, best=columns)


def schedule_text(epochs: dict[str, dict[str, int]], paper: dict[str, dict[str, int]]) -> str:
    """epochs: {data set: {name: ours}}; paper: {name: {data set or `all`: its}}, `published_epochs`. For a data set that the paper
    does not have, its shortest schedule counts."""
    shared: dict[str, list[str]] = {}
    for dataset, named in epochs.items():
        shared.setdefault(", ".join(f"{length} {name}" for name, length in named.items()), []).append(dataset)
    ours = "; ".join(f"{text} ({', '.join(datasets)})" for text, datasets in shared.items())
    theirs = ", ".join(f"{_lengths(lengths)} {name}" for name, lengths in paper.items())
    full = all(
        named.get(name, 0) >= lengths.get(dataset, lengths.get("all", min(lengths.values())))
        for dataset, named in epochs.items()
        for name, lengths in paper.items()
    )
    verdict = "the paper's length" if full else "reduced against the paper, so no value here confirms or refutes it"
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
