"""pcl table 12: seconds per epoch of each loss, as a multiple of cross entropy's; and epochs."""

import pandas as pd

from pipeline.reporting.markdown import markdown_table
from pipeline.reporting.published import Paper

BASE = "softmax_fs"  # published key of what the others are compared with
COLUMNS = [
    *("dataset", "method", "key", "label", "metric", "published", "measured", "difference", "low", "high", "repeats", "images"),
    *("network", "batch_size", "device", "threads"),
]
SECONDS, RATIO, EPOCHS = "seconds-per-epoch", "times-cross-entropy", "epochs"
LEGEND = (
    "Median over the repeats, in brackets the smallest and the largest. A repeat times one epoch of every method in turn, and the "
    "ratio is taken within a repeat, so what slows the machine down for a while slows both. Seconds are those of this machine and "
    "network; only the ratio can be set against the paper, which measured CIFAR-10 with ResNet-110 on hardware that it does not "
    "name."
)


def published_cost(published: pd.DataFrame) -> pd.DataFrame:
    """key, metric, published: seconds per epoch, their ratio to cross entropy's, epochs."""
    rows = published[(published["paper"] == "pcl") & (published["table"] == "12")]
    rows = pd.DataFrame({"key": rows["key"], "metric": rows["metric"], "published": rows["value"]})
    seconds = rows[rows["metric"] == SECONDS]
    base = seconds.loc[seconds["key"] == BASE, "published"].iloc[0]
    return pd.concat([rows, seconds.assign(metric=RATIO, published=seconds["published"] / base)], ignore_index=True)


def cost_table(cost: pd.DataFrame | None, paper: Paper, published: pd.DataFrame) -> pd.DataFrame:
    """cost: `load_cost`, or None where nothing was timed. A row per data set, method and metric: median, smallest and largest over
    the repeats. The paper's values are those of CIFAR-10, beside every data set; seconds are not compared. No ratios where cross
    entropy was not timed."""
    if cost is None:
        return pd.DataFrame(columns=COLUMNS)
    base = cost[cost["method"] == paper.method(BASE)].set_index(["dataset", "repeat"])["seconds"].rename("base")
    cost = cost.join(base, on=["dataset", "repeat"])
    about = ["images", "network", "batch_size", "device", "threads"]
    rows = []
    for (dataset, method), own in cost.groupby(["dataset", "method"], sort=False):
        name = str(method)
        shared = {"dataset": dataset, "method": name, "key": paper.keys.get(name, ""), "label": paper.labels[name]}
        shared |= {"repeats": len(own), **own[about].iloc[0]}
        values = {SECONDS: own["seconds"], RATIO: (own["seconds"] / own["base"]).dropna(), EPOCHS: own["epochs"].head(1)}
        for metric, value in values.items():
            row = {**shared, "metric": metric, "measured": value.median()}
            rows += [row if metric == EPOCHS else {**row, "low": value.min(), "high": value.max()}] if len(value) else []
    table = pd.DataFrame(rows).merge(published_cost(published), how="left", on=["key", "metric"])
    table["difference"] = (table["measured"] - table["published"]).where(table["metric"] == RATIO)
    return table.reindex(columns=COLUMNS).round(4)


def cost_markdown(table: pd.DataFrame) -> str:
    """table: `cost_table`. With its heading; a column per loss, as in the paper."""
    parts = ["## PCL Table 12: training time", LEGEND if len(table) else "Nothing measured in this run."]
    for dataset, rows in table.groupby("dataset", sort=False):
        first = rows.iloc[0]
        parts.append(f"### {dataset}")
        parts.append(
            f"{first['images']} images, {first['network']}, batches of {first['batch_size']}, {first['device']}, "
            f"{first['threads']} thread{'s' if first['threads'] != 1 else ''}, {first['repeats']} repeats. Epochs are "
            "those of the method's own training; what starts from the softmax model has the epochs of that one before them."
        )
        lines: dict[str, dict[str, str]] = {}
        for row in rows.to_dict("records"):
            spread = f"{row['measured']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
            theirs = {SECONDS: ".1f", RATIO: ".2f", EPOCHS: ".0f"}[row["metric"]]
            for name, text in (
                (row["metric"], f"{row['measured']:.0f}" if row["metric"] == EPOCHS else spread),
                (f"{row['metric']}, paper", "-" if pd.isna(row["published"]) else format(row["published"], theirs)),
            ):
                lines.setdefault(name, {"": name.replace("-", " ")})[row["label"]] = text
        parts.append(markdown_table(pd.DataFrame(list(lines.values())).astype(object).fillna("-")))
    return "\n\n".join(parts) + "\n"
