"""The pcl paper's accuracy tables as Markdown, each laid out as in the paper."""

from collections.abc import Callable

import pandas as pd

from pipeline.reporting.findings import WEAK, too_weak, value_of
from pipeline.reporting.markdown import NOT_THE_WORST, grid, interval_text, name_attack, published_text, run_text, value_text
from pipeline.reporting.outcomes import CW
from pipeline.reporting.pcl.tables import ADAPTIVE_SETTING, TABLES, WHITE_BOX
from pipeline.reporting.published import published_value

Text = Callable[[pd.Series], str]
LEGEND = (
    "A cell is the accuracy in % with its 95 % Wilson interval (images of one seed), then the published value and measured minus "
    f"published where the paper has the data set and strength. {NOT_THE_WORST}"
)
BEST = "The most robust method in bold."
LEGENDS = {
    3: (
        "Black-box: the adversarial images were made on a VGG-19 trained on clean images only, here of the width in params.yaml, "
        "`networks.source`; in full size it is 64."
    ),
    4: (
        "Adaptive: the attack climbs the joint loss, CE + prototype loss, with knowledge of the prototypes. `usual`: the same "
        "attack on CE alone. What counts is what the stronger of the two leaves, so none is bold. "
        f"`{WEAK}`: the adaptive attack leaves more images right than the usual one, by the interval of the difference. This is no "
        "robustness, since "
        "nobody has to use that knowledge: the joint loss is the worse objective, as when the prototype term "
        "outweighs the cross entropy. Such a cell does not tell what knowing the prototypes is worth."
    ),
    8: (
        "The paper does not say which of its models is meant. Its clean accuracy on CIFAR-10 is that of the one trained on PGD "
        "images in table 3, on CIFAR-100 that of the one without adversarial training; on SVHN and Fashion-MNIST it is that of "
        "both, as printed. Its values stand under the one trained on PGD images, on CIFAR-100 under the other."
    ),
    9: (
        "The paper states eps 8/255 here and 0.03 in table 3, with the same values for softmax and PCL. Deep softmax is described "
        "there, but has no column."
    ),
    11: (
        "Layers as in the paper's table 1; the line before the last is layers 4+5, as the released code; the last is 3+4+5, the "
        "paper's model."
    ),
    13: (
        "Lines: the model that the images were made on; columns: the model that they are shown to. White-box underlined. The "
        "authors' own model is taken to be the one trained on PGD images: its value on images from VGG-19 is table 3's black-box "
        "value of that model and of no other; its white-box value is in no other table, and nearest to that model's. Attacks go on "
        "to their last step here, as images for transfer need; elsewhere they stop at the first that the model gets wrong."
    ),
}
NOT_RUN = {"yu": "neither code nor the exact objective of [45] could be found"}


def cw_text(options: dict[str, float], published: pd.DataFrame) -> str:
    """How C&W ran and how in the paper's table 2. options: of the run."""
    steps, rate = (
        published_value(published, paper="pcl", table="2", attack=CW, metric=name) for name in ("steps", "learning-rate")
    )
    searches = options["binary_search_steps"]
    constant = "c as given" if searches == 1 else f"binary search over {searches} constants from c on"
    return (
        f"C&W: {options['steps']} steps with learning rate {options['learning_rate']:g}, confidence {options['confidence']:g}, "
        f"{constant}; the paper: {steps:.0f} steps with learning rate {rate:g}."
    )


def strength_names(rows: pd.DataFrame) -> pd.Series:
    """`PGD, eps 0.1`; for C&W with the number of images, which is smaller than for the others."""
    names = [name_attack(attack, eps) for attack, eps in zip(rows["attack"], rows["eps"], strict=True)]
    images = [f" ({n} images)" if a == CW and pd.notna(n) else "" for a, n in zip(rows["attack"], rows["images"], strict=True)]
    return pd.Series([name + count for name, count in zip(names, images, strict=True)], index=rows.index, dtype=object)


def paper_grid(number: int, rows: pd.DataFrame, value: str, text: Text, names: dict[str, str]) -> str:
    """One data set's rows, of one setting where the lines are methods."""
    strengths, columns = strength_names(rows), TABLES[number].columns
    if columns == "attack":
        best = None if number == 4 else strengths
        return grid(rows, lines=rows["label"], columns=strengths, value=value, text=text, best=best)
    if columns == "method":
        return grid(rows, lines=strengths, columns=rows["label"], value=value, text=text, best=strengths, head="attack")
    sources = rows["setting"].str.removeprefix("from ")

    def marked(row: pd.Series) -> str:
        return f"<u>{text(row)}</u>" if row["setting"] == f"from {row['key']}" else text(row)

    return grid(rows, lines=sources.map(names), columns=rows["label"], value=value, text=marked, best=None, head="source")


def beside_usual(rows: pd.DataFrame, value: str, text: Text, usual_text: Text) -> Text:
    """The text of an adaptive value with the conventional one behind it, and whether the attack was too weak. rows: table 4."""
    place = ["dataset", "label", "attack", "eps"]
    known = rows[(rows["setting"] == WHITE_BOX) & rows[value].notna()]
    usual = {tuple(row[place]): row for _, row in known.iterrows()}

    def both(row: pd.Series) -> str:
        other = usual.get(tuple(row[place]))
        if other is None or row["setting"] == WHITE_BOX:
            return text(row)
        measured = [value_of(known) for known in (row, other) if pd.notna(known["measured"])]
        weak = len(measured) == 2 and too_weak(*measured)
        return f"{text(row)}, usual {usual_text(other)}{f': {WEAK}' if weak else ''}"

    return both


def split(number: int, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """One data set's rows as (heading, rows) of each grid. Table 3: by setting; table 4: adaptive and clean, the paper's methods
    and the others."""
    if number == 3:
        names = {WHITE_BOX: "white-box", "from vgg": "black-box"}
        return [(f", {names[str(setting)]}", own) for setting, own in rows.groupby("setting", sort=False)]
    if number == 4:
        rows = rows[(rows["setting"] == ADAPTIVE_SETTING) | (rows["attack"] == "clean")]
        rows = rows.sort_values("attack", key=lambda names: names != "clean", kind="stable")  # clean first, as in the paper
        own = rows["key"].isin(TABLES[4].methods)
        return [(name, part) for name, part in (("", rows[own]), (", methods not in the paper's table", rows[~own])) if len(part)]
    return [("", rows)]


def section(number: int, rows: pd.DataFrame, value: str, text: Text, names: dict[str, str], level: str) -> list[str]:
    """A heading and a grid for each data set and part. rows: with a `value`."""
    parts = []
    for dataset, own in rows.groupby("dataset", sort=False):
        for name, part in split(number, own):
            parts += [f"{level} {dataset}{name}", paper_grid(number, part, value, text, names)]
    return parts


def missing_text(number: int, measured: pd.DataFrame, names: dict[str, str]) -> str:
    """Which of the table's methods have no measured value, and why."""
    absent = [key for key in TABLES[number].methods if key not in set(measured["key"])]
    if not absent:
        return ""
    why = [f"{names[key]} ({NOT_RUN.get(key, 'not run')})" for key in absent]
    return f"Measured values missing (-): {'; '.join(why)}."


def with_gaps(number: int, measured: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The measured rows, and one without value wherever a method was not run under an attack that another was run under; the
    methods of the paper first, in its order."""
    place = ["dataset", "setting", "attack", "eps"]
    of_paper = pd.DataFrame([{"label": names[key], "key": key} for key in TABLES[number].methods])
    methods = pd.concat([of_paper, measured[["label", "key"]]]).drop_duplicates("label")
    every = measured[place].drop_duplicates().merge(methods, how="cross")
    rows = every.merge(measured.drop(columns="key"), how="left", on=[*place, "label"])
    return rows.assign(images=rows.groupby(place)["images"].transform("max"))


def pcl_table_markdown(number: int, table: pd.DataFrame, schedule: str, names: dict[str, str], *, cw: str) -> str:
    """table: `pcl_table`; schedule: `schedule_text`; names: labels by published key; cw: `cw_text`. One table with its heading."""
    measured, rest = table[table["measured"].notna()], table[table["measured"].isna()]
    parts = [f"## PCL Table {number}: {TABLES[number].title}"]
    best = [] if TABLES[number].columns == "target" or number == 4 else [BEST]
    legend = " ".join([LEGEND, *best, *filter(None, [LEGENDS.get(number)])])
    if measured.empty:
        parts += [legend, "Nothing measured in this run."]
    else:
        made = [run_text(measured, schedule), *([cw] if (measured["attack"] == CW).any() else [])]
        parts += [" ".join(made), legend]

        def ours(row: pd.Series) -> str:
            return "-" if pd.isna(row["measured"]) else value_text(row)

        text = beside_usual(measured, "measured", ours, interval_text) if number == 4 else ours
        parts += section(number, with_gaps(number, measured, names), "measured", text, names, "###")
        parts += filter(None, [missing_text(number, measured, names)])
    if len(rest):
        text = beside_usual(table, "published", published_text, published_text) if number == 4 else published_text
        parts += ["### Published, not measured here", *section(number, rest, "published", text, names, "####")]
    return "\n\n".join(parts) + "\n"
