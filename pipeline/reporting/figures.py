"""Figures 2 and 3 of the hcp paper and the critical difference diagram. Agg only, and the same input gives the same bytes."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation
from PIL import Image
from scikit_posthocs import critical_difference_diagram
from sklearn.decomposition import PCA

from pipeline.reporting.statistics_text import mean_ranks, p_matrix, reason, scalar

# Paul Tol's muted scheme, safe for colour-blind readers; markers tell classes apart without colour
COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777")
MARKERS = "osD^vP*X<>"
FIGURE3_METHODS = ("softmax_fs", "pcl", "hcp", "hcp_fs")
DRAWN = 2000  # points of a scatter plot; PCA is fitted on all


def save(figure: Figure, path: Path, *, dpi: int = 150, colours: int = 256, tight: bool = True) -> None:
    """A PNG with a palette, a third of the size: pictures stand in git and inside the report."""
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight" if tight else None, pil_kwargs={"compress_level": 1})
    with Image.open(buffer) as image:
        small = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(path, optimize=True)


def noise_figure(noise: dict[str, dict[str, dict[str, np.ndarray]]], labels: dict[str, str]) -> Figure:
    """Figure 2. noise: {stop rule: {dataset: {method: noise of each image (N,)}}}; a row per stop rule, a column per data set."""
    columns = list(dict.fromkeys(dataset for by_dataset in noise.values() for dataset in by_dataset))
    methods = max(len(by_method) for by_dataset in noise.values() for by_method in by_dataset.values())
    figure = Figure(figsize=(max(4.5, 1.2 + 0.6 * methods) * len(columns), 3.3 * len(noise) + 0.7), layout="constrained")
    axes = figure.subplots(len(noise), len(columns), squeeze=False, sharex="col")
    for row, (stop, by_dataset) in zip(axes, noise.items(), strict=True):
        for ax, dataset in zip(row, columns, strict=True):
            noise_panel(ax, by_dataset[dataset], labels)
            ax.set_title(f"{dataset}, stop: {stop}", fontsize=10)
        row[0].set_ylabel("MSE of the noise per image")
    return figure


def noise_panel(ax: Axes, by_method: dict[str, np.ndarray], labels: dict[str, str]) -> None:
    """Boxes: quartiles, whiskers 5-95 %, line: median, diamond: mean. HCP methods filled darker. `by_method` may be empty."""
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
        box.set_facecolor("#CC6677" if method.startswith("hcp") else "#88CCEE")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    ax.tick_params(axis="x", labelrotation=40, labelsize=8)
    for text in ax.get_xticklabels():
        text.set_horizontalalignment("right")
        text.set_rotation_mode("anchor")


def features_figure(features: dict[str, dict[str, tuple[np.ndarray, np.ndarray, str]]], labels: dict[str, str]) -> Figure:
    """Figure 3. features: {dataset: {method: (features (N, D), labels (N,), layer)}}; a row per data set, a column per method."""
    width = max(len(by_method) for by_method in features.values())
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


def features_panel(ax: Axes, x: np.ndarray, y: np.ndarray, drawn: int = DRAWN) -> None:
    """Scatter of the first two principal components, x: (N, D), y: (N,). The title states their share of the variance."""
    pca = PCA(n_components=2, svd_solver="full")
    z = pca.fit_transform(x.astype(float))[:drawn]  # (min(N, drawn), 2)
    scatter(ax, z, y[:drawn])
    ax.set_title(f"{100 * pca.explained_variance_ratio_.sum():.0f} % of the variance")
    ax.set_xticks([])
    ax.set_yticks([])


def class_style(place: int, classes: int) -> tuple[str, str]:
    """Colour and marker of a class; with more classes than colours they can only be told apart roughly."""
    return (f"C{place % 10}", "o") if classes > len(COLOURS) else (COLOURS[place], MARKERS[place])


def scatter(ax: Axes, z: np.ndarray, y: np.ndarray, size: float = 9) -> None:
    """One collection a class. z: (N, 2), y: (N,)."""
    classes = np.unique(y)
    for place, name in enumerate(classes):
        colour, marker = class_style(place, len(classes))
        points = z[y == name]
        ax.scatter(points[:, 0], points[:, 1], s=size, color=colour, marker=marker, linewidths=0, alpha=0.75, label=str(name))


def critical_difference_figure(statistics: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """statistics: hcp_statistics.csv. Above the methods that the paper compares, below all of them."""
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
            critical_difference_panel(ax, statistics, group, title, labels)
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
        text.set_text(f" {labels.get(str(method), str(method))} ({rank:.2f}) ")
    ax.set_title(
        f"{title}: mean rank over {values['blocks']:.0f} experiments, critical distance {values['critical_distance']:.2f} "
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
