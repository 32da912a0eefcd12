"""hcp_statistics.csv as Markdown. Reads the frame of `statistics_frame` only."""

from pathlib import Path

import pandas as pd

from pipeline.reporting.files import read_table
from pipeline.reporting.markdown import markdown_table

SCALAR_TEXT = {
    "chi2": "Friedman chi-squared",
    "critical_value": "its critical value",
    "df": "degrees of freedom",
    "p": "p",
    "blocks": "experiments (blocks)",
    "critical_distance": "Nemenyi critical distance",
}
BLOCKS = (
    "A block is one experiment on one data set, averaged over the seeds: clean accuracy, accuracy under one attack at one eps, or "
    "the MSE of the noise measurement (the paper's stop rule). On the paper's data sets the blocks are the paper's: clean, FGSM, "
    "BIM, MIM and noise, 15 on all three. Rank 1 is best, ties share a rank. Two methods differ when their mean ranks are further "
    "apart than the critical distance."
)
CAUTION = (
    "**Read the p-values as too optimistic.** Blocks that come from the same trained model (its accuracy under four attacks at "
    "several eps) are strongly correlated, while the Friedman test takes them as independent; the paper's experiments share this. "
    "Where all blocks are of one data set and one model a method, the ranks describe, and the p-values test nothing."
)


def read_statistics(path: Path) -> pd.DataFrame:
    """hcp_statistics.csv as `statistics_frame` made it: text columns without NaN, numbers float."""
    table = read_table(path).astype({"value": float, "printed": float})
    text = ["method", "other", "note"]
    return table.assign(**{name: table[name].astype(object).fillna("") for name in text})


def scalar(table: pd.DataFrame, group: str, statistic: str, column: str = "value") -> float:
    rows = table[(table["group"] == group) & (table["statistic"] == statistic)]
    return float(rows[column].iloc[0]) if len(rows) else float("nan")


def blocks_note(table: pd.DataFrame, group: str) -> str:
    """How many blocks the group has, and what they are."""
    rows = table[(table["group"] == group) & (table["statistic"] == "blocks")]
    return f"{rows['value'].iloc[0]:.0f} blocks ({rows['note'].iloc[0]})"


def mean_ranks(table: pd.DataFrame, group: str, column: str = "value") -> pd.Series:
    """Mean rank by method, in the order of the table."""
    return table[(table["group"] == group) & (table["statistic"] == "mean_rank")].set_index("method")[column]


def reason(table: pd.DataFrame, group: str) -> str:
    """Why the group was not tested, or nothing."""
    rows = table[(table["group"] == group) & (table["statistic"] == "reason")]
    return str(rows["note"].iloc[0]) if len(rows) else ""


def p_matrix(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """Nemenyi p-values, methods x methods, symmetric with ones on the diagonal."""
    methods = list(mean_ranks(table, group).index)
    matrix = pd.DataFrame(1.0, index=methods, columns=methods)
    rows = table[(table["group"] == group) & (table["statistic"] == "nemenyi_p")]
    for a, b, p in zip(rows["method"], rows["other"], rows["value"], strict=True):
        matrix.loc[a, b] = matrix.loc[b, a] = p
    return matrix


def separated(table: pd.DataFrame, group: str, labels: dict[str, str]) -> str:
    """The pairs that differ at the group's alpha, better one first."""
    ranks, alpha = mean_ranks(table, group), scalar(table, group, "alpha")
    rows = table[(table["group"] == group) & (table["statistic"] == "nemenyi_p") & (table["value"] < alpha)]
    pairs = [sorted(pair, key=lambda method: float(ranks[method])) for pair in zip(rows["method"], rows["other"], strict=True)]
    return ", ".join(f"{labels[a]} before {labels[b]}" for a, b in pairs) or "none"


def compare_part(table: pd.DataFrame, names: dict[str, str]) -> str:
    """The paper's methods: printed, recomputed from its tables in two ways, and measured, side by side."""
    columns = {
        "printed in the paper": mean_ranks(table, "published", "printed"),
        "its tables, HCP (SM)": mean_ranks(table, "published"),
        "its tables, better of HCP (SM), (FS)": mean_ranks(table, "published_best"),
        "measured here": mean_ranks(table, "compare"),
    }
    methods = list(dict.fromkeys([*columns["measured here"].index, *columns["printed in the paper"].index]))
    rows = [
        {"": f"mean rank, {names[m]}", **{name: f"{ranks[m]:.2f}" for name, ranks in columns.items() if m in ranks}}
        for m in methods
    ]
    sources = (("published", "printed"), ("published", "value"), ("published_best", "value"), ("compare", "value"))
    for statistic, text in SCALAR_TEXT.items():
        values = [scalar(table, group, statistic, column) for group, column in sources]
        cells = [f"{value:.4g}" for value in values]
        rows.append({"": text, **{name: cell for name, cell in zip(columns, cells, strict=True) if cell != "nan"}})
    return markdown_table(pd.DataFrame(rows).reindex(columns=["", *columns]).astype(object).fillna("-"))


def paper_part(table: pd.DataFrame, names: dict[str, str]) -> str:
    """What recomputing the paper's statistic from its own tables shows."""
    printed = mean_ranks(table, "published", "printed")
    off = {group: (mean_ranks(table, group) - printed).abs().max() for group in ("published", "published_best")}
    n, df = scalar(table, "published", "blocks"), scalar(table, "published", "df")
    alpha = scalar(table, "published", "alpha")
    return "\n".join(
        [
            f"- The printed mean ranks are at most {off['published_best']:.2f} from those of the better of HCP (SM) and HCP (FS), "
            f"chosen anew in each experiment, and up to {off['published']:.2f} from those of HCP (SM): HCP was ranked with the "
            "better of two models per experiment, a choice that no other method got.",
            f"- Pairs that differ at alpha {alpha:g} in the paper's tables, with that choice: "
            f"{separated(table, 'published_best', names)}. With HCP (SM) alone: {separated(table, 'published', names)}.",
            f"- The paper states {n - 1:.0f} x {df:.0f} = {(n - 1) * df:.0f} degrees of freedom; its critical value is that of "
            f"chi-squared with {df:.0f}.",
        ]
    )


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def all_part(table: pd.DataFrame, labels: dict[str, str]) -> list[str]:
    """Every method that was run: ranks, test, matrix of p-values."""
    if reason(table, "all"):
        return [f"No test: {reason(table, 'all')}."]
    ranks = mean_ranks(table, "all").sort_values(kind="stable")
    lines = pd.DataFrame({"method": [labels[m] for m in ranks.index], "mean rank": [f"{rank:.2f}" for rank in ranks]})
    scalars = ", ".join(f"{text} {scalar(table, 'all', statistic):.4g}" for statistic, text in SCALAR_TEXT.items())
    matrix = p_matrix(table, "all").loc[ranks.index, ranks.index]
    cells = pd.DataFrame({"Nemenyi p": [labels[m] for m in matrix.index]})
    for method in matrix:
        cells[labels[str(method)]] = ["" if a == method else p_text(p) for a, p in matrix[method].items()]
    return [
        markdown_table(lines),
        f"{scalars[0].upper()}{scalars[1:]}. Measured: {blocks_note(table, 'all')}.",
        markdown_table(cells),
    ]


def statistics_markdown(table: pd.DataFrame, labels: dict[str, str], names: dict[str, str]) -> str:
    """The test with its heading. labels: by method; names: by published key."""
    missing = reason(table, "compare")
    compare = f"Measured, no test: {missing}."
    if not missing:
        compare = f"Measured: {blocks_note(table, 'compare')}. "
        compare += f"Pairs that differ at alpha {scalar(table, 'compare', 'alpha'):g}: {separated(table, 'compare', names)}."
        measured, printed = (len(mean_ranks(table, group)) for group in ("compare", "published"))
        if measured < printed:
            compare += f" Ranks among {measured} methods: not comparable with the paper's, among {printed}."
    parts = ["## Friedman test and Nemenyi post-hoc", BLOCKS, CAUTION, "### The methods that the paper compares"]
    parts += [compare_part(table, names), compare, paper_part(table, names), "### All methods", *all_part(table, labels)]
    return "\n\n".join(parts) + "\n"
