"""Figures 2 and 3 of the hcp paper and the critical difference diagram."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation
from scikit_posthocs import critical_difference_diagram

from pipeline.reporting.drawing import COLOURS, as_drawn, features_panel, save, text_figure
from pipeline.reporting.hcp.statistics_text import mean_ranks, p_matrix, read_statistics, reason, scalar
from pipeline.reporting.hcp.tables import METHODS
from pipeline.reporting.outcomes import in_order, load_features, load_noise
from pipeline.reporting.published import paper_rows
from pipeline.reporting.run import Run

FIGURE3 = ("softmax_fs", "pcl", "hcp", "hcp_fs")  # published keys
HCP_LOSS = ("hcp", "hcp_fs", "hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp_at")


def save_hcp_figures(run: Run, attacks: Path, tables: Path, out: Path) -> None:
    """hcp_figure2.png, hcp_figure3.png and hcp_critical_difference.png in `out`."""
    run = as_drawn(run)
    paper = paper_rows(run, "hcp")
    keyed = {key: method for method, key in paper.keys.items() if key}
    methods = in_order(paper.keys, [keyed[key] for key in METHODS if key in keyed])
    noise = load_noise(attacks, datasets=run.datasets, methods=methods, seeds=run.seeds, stops=run.noise_stop)
    save(noise_figure(noise, run.labels, {keyed[key] for key in HCP_LOSS if key in keyed}), out / "hcp_figure2.png")
    drawn = [keyed[key] for key in FIGURE3 if key in keyed]
    features = load_features(attacks, datasets=run.datasets, methods=drawn, seed=run.seeds[0])
    save(features_figure(features, run.labels), out / "hcp_figure3.png")
    statistics = read_statistics(tables / "hcp_statistics.csv")
    save(critical_difference_figure(statistics, run.labels, paper.names), out / "hcp_critical_difference.png")


def noise_figure(noise: dict[str, dict[str, dict[str, np.ndarray]]], labels: dict[str, str], red: set[str]) -> Figure:
    """Figure 2. noise: {stop rule: {dataset: {method: noise of each image (N,)}}}; a row per stop rule, a column per data set. red:
    methods whose boxes are red."""
    columns = list(dict.fromkeys(dataset for by_dataset in noise.values() for dataset in by_dataset))
    methods = max(len(by_method) for by_dataset in noise.values() for by_method in by_dataset.values())
    figure = Figure(figsize=(max(4.5, 1.2 + 0.6 * methods) * len(columns), 3.3 * len(noise) + 0.7), layout="constrained")
    axes = figure.subplots(len(noise), len(columns), squeeze=False, sharex="col")
    for row, (stop, by_dataset) in zip(axes, noise.items(), strict=True):
        for ax, dataset in zip(row, columns, strict=True):
            noise_panel(ax, by_dataset[dataset], labels, red)
            ax.set_title(f"{dataset}, stop: {stop}", fontsize=10)
        row[0].set_ylabel("MSE of the noise per image")
    return figure


def noise_panel(ax: Axes, by_method: dict[str, np.ndarray], labels: dict[str, str], red: set[str]) -> None:
    """Boxes: quartiles, whiskers 5-95 %, line: median, diamond: mean. `by_method` may be empty."""
    if not by_method:
        ax.text(0.5, 0.5, "not run", ha="center", va="center", transform=ax.transAxes)
        ax.axis("off")
        return
    names = [labels.get(method, method) for method in by_method]
    boxes = ax.boxplot(
        list(by_method.values()),
        tick_labels=names,
        whis=(5, 95),
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        widths=0.6,
        medianprops={"color": "black", "linewidth": 1.4},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4},
    )
    for box, method in zip(boxes["boxes"], by_method, strict=True):
        box.set_facecolor("#CC6677" if method in red else "#88CCEE")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    ax.tick_params(axis="x", labelrotation=40, labelsize=8)
    for text in ax.get_xticklabels():
        text.set_horizontalalignment("right")
        text.set_rotation_mode("anchor")


def features_figure(features: dict[str, dict[str, tuple[np.ndarray, np.ndarray, str]]], labels: dict[str, str]) -> Figure:
    """Figure 3. features: {dataset: {method: (features (N, D), labels (N,), layer)}}; a row per data set, a column per method."""
    width = max((len(by_method) for by_method in features.values()), default=0)
    if not width:
        return text_figure("the methods of this figure are not in the run")
    figure = Figure(figsize=(3.1 * width + 0.9, 3.4 * len(features)), layout="constrained")
    axes = figure.subplots(len(features), width, squeeze=False)
    for row, (dataset, by_method) in zip(axes, features.items(), strict=True):
        for ax in row[len(by_method) :]:
            ax.axis("off")
        for ax, (method, (x, y, layer)) in zip(row, by_method.items(), strict=False):
            features_panel(ax, x, y)
            ax.set_title(f"{labels.get(method, method)}\n{ax.get_title()}", fontsize=10)
            row[0].set_ylabel(f"{dataset}, {layer}")
        if len(row[0].collections) <= len(COLOURS):  # one collection a class
            row[len(by_method) - 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="class", fontsize=8, markerscale=1.6)
    return figure


def critical_difference_figure(statistics: pd.DataFrame, labels: dict[str, str], names: dict[str, str]) -> Figure:
    """statistics: hcp_statistics.csv. Above the methods that the paper compares, below all of them. labels: by method; names: by
    published key."""
    titles = {"compare": "The methods that the paper compares", "all": "All methods"}
    heights = [2.2 + 0.3 * len(mean_ranks(statistics, group)) for group in titles]
    figure = Figure(figsize=(9, sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.2))
    axes = figure.subplots(len(titles), 1, height_ratios=heights)
    for ax, (group, title) in zip(axes, titles.items(), strict=True):
        why = reason(statistics, group)
        if why:
            ax.set_title(title)
            ax.text(0.5, 0.5, f"no test: {why}", ha="center", va="center", wrap=True, fontsize=9)
            ax.axis("off")
        else:
            critical_difference_panel(ax, statistics, group, title, names if group == "compare" else labels)
    return figure


def critical_difference_panel(ax: Axes, statistics: pd.DataFrame, group: str, title: str, labels: dict[str, str]) -> None:
    """Mean ranks on a line, best left; a bar joins methods that do not differ. The library gets numbers for names: it puts names in
    sets, whose order changes from run to run for text."""
    values = {name: scalar(statistics, group, name) for name in ("critical_distance", "blocks", "alpha")}
    ranks, p_values = mean_ranks(statistics, group), p_matrix(statistics, group)
    numbers = range(len(ranks))
    artists = critical_difference_diagram(
        pd.Series(ranks.to_numpy(), index=numbers),
        pd.DataFrame(p_values.to_numpy(), index=numbers, columns=numbers),
        alpha=values["alpha"],
        ax=ax,
        label_fmt_left="{label}",
        label_fmt_right="{label}",
        elbow_props={"color": "0.2", "linewidth": 1},
        label_props={"fontsize": 9},
        marker_props={"s": 16},
        crossbar_props={"color": "#882255", "linewidth": 3},
    )
    for text in artists["labels"]:
        method, rank = list(ranks.items())[int(text.get_text())]
        text.set_text(f" {labels[str(method)]} ({rank:.2f}) ")
    ax.set_title(
        f"{title}: mean rank over {values['blocks']:.0f} blocks, critical distance {values['critical_distance']:.2f} "
        f"(alpha {values['alpha']:g})",
        fontsize=10,
        pad=52,
    )
    start, end = ranks.min(), ranks.min() + values["critical_distance"]
    above = ax.transData + ScaledTranslation(0, 32 / 72, ax.figure.dpi_scale_trans)  # clear of the tick labels at any scale
    ax.plot([start, end], [0, 0], color="black", marker="|", markersize=8, transform=above, clip_on=False)
    ax.text(
        (start + end) / 2, 0.1, f"CD = {values['critical_distance']:.2f}", ha="center", va="bottom", fontsize=9, transform=above
    )
