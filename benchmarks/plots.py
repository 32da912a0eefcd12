"""Pictures of two of the tables: the ratios of steps.csv, and the seconds of attacks.csv."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.measure import quartiles

COLOURS = ("#332288", "#88CCEE", "#44AA99", "#CC6677", "#999933")  # Paul Tol's muted scheme, safe for colour-blind readers


def steps_figure(rows: pd.DataFrame, limits: Mapping[str, Mapping[str, float]]) -> Figure:
    """A panel per network: for each loss the median and quartiles of its step over that of cross entropy, and its limit, where it
    has one. rows: of steps.csv; limits: by network and loss."""
    networks = list(rows["network"].unique())
    figure = Figure(figsize=(4.5 * len(networks), 3), layout="constrained")
    for ax, network in zip(figure.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
        for place, (loss, group) in enumerate(rows[rows["network"] == network].groupby("loss", sort=False)):
            ratio = quartiles((group["seconds"] / group["ce_seconds"]).tolist())
            ax.plot([place, place], [ratio.low, ratio.high], color=COLOURS[0], linewidth=4, solid_capstyle="butt", alpha=0.5)
            ax.plot(place, ratio.median, "o", color=COLOURS[0])
            if limit := limits.get(network, {}).get(str(loss)):
                ax.plot([place - 0.3, place + 0.3], [limit] * 2, color=COLOURS[3])
        ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        ax.set_xticks(range(rows["loss"].nunique()), list(rows["loss"].unique()))
        ax.set_xlim(-0.5, rows["loss"].nunique() - 0.5)
        ax.set_title(f"{network}: dot and bar, median and quartiles; line, limit", fontsize=8)
    figure.supylabel("step, times that of cross entropy", fontsize=9)
    return figure


def attacks_figure(rows: pd.DataFrame) -> Figure:
    """A panel per network and model, a group of bars per attack and eps, a bar per library: median seconds over those of ours.
    rows: of attacks.csv."""
    short = rows["attack"].replace("autoattack", "AA")  # or the names would run into each other
    rows = rows.assign(attack=short + "\n" + rows["eps"].map("{:.2g}".format))
    panels = rows.groupby(["network", "model"], sort=False)
    libraries = list(rows["library"].unique())
    networks = list(rows["network"].unique())
    figure = Figure(figsize=(13, 2.6 * len(networks)), layout="constrained")
    axes = figure.subplots(len(networks), 3, squeeze=False, sharey=True).ravel()
    for ax, ((network, model), group) in zip(axes, panels, strict=False):
        attacks = list(group["attack"].unique())
        seconds = group.groupby(["attack", "library"])["seconds"].median().unstack().reindex(index=attacks, columns=libraries)
        for place, library in enumerate(libraries):
            at = [row + 0.8 * (place + 0.5) / len(libraries) - 0.4 for row in range(len(attacks))]
            ax.bar(at, seconds[library] / seconds[libraries[0]], 0.8 / len(libraries), color=COLOURS[place], label=library)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")  # not 10 with a power, which needs mathtext
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        ax.set_xticks(range(len(attacks)), attacks)
        ax.tick_params(axis="x", labelsize=7)
        ax.set_title(f"{network}, {model}", fontsize=9)
    axes[0].legend(fontsize=7)
    figure.supylabel("seconds, over ours; AA: AutoAttack", fontsize=9)
    return figure
