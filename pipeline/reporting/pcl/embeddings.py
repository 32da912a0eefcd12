"""Figures 4 and 5 of the pcl paper: t-SNE of the features of clean test images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from pipeline.reporting.drawing import COLOURS, class_legend, scatter, text_figure
from pipeline.reporting.outcomes import load_layers
from pipeline.reporting.published import Paper

FIGURE4 = ("pcl_deep", "triplet")  # published keys
FIGURE5 = "pcl_deep"  # published key
FIGURE5_LAYERS = ("layer1", "layer3", "layer4", "layer5")
POINTS = 1000  # t-SNE takes seconds for these
SEED = 0
Panel = tuple[str, np.ndarray, np.ndarray]  # title, features (N, D), labels (N,)


def loss_rows(attacks: Path, datasets: Iterable[str], paper: Paper, seed: int) -> dict[str, list[Panel]]:
    """Figure 4: the last layer of PCL beside that of the triplet loss, of those that are in the run."""
    rows: dict[str, list[Panel]] = {}
    for dataset in datasets:
        for method in filter(None, map(paper.method, FIGURE4)):
            layers, y = load_layers(attacks, dataset=dataset, method=method, seed=seed)
            rows.setdefault(dataset, []).extend((f"{paper.labels[method]}, {name}", x, y) for name, x in layers.items())
    return rows


def depth_rows(attacks: Path, datasets: Iterable[str], paper: Paper, seed: int) -> dict[str, list[Panel]]:
    """Figure 5: PCL layer by layer."""
    method, rows = paper.method(FIGURE5), {}
    for dataset in datasets if method else ():
        layers, y = load_layers(attacks, dataset=dataset, method=str(method), seed=seed, layers=FIGURE5_LAYERS)
        rows[dataset] = [(name, x, y) for name, x in layers.items()]
    return rows


def ten_classes(y: np.ndarray) -> np.ndarray:
    """Which of y (N,) to draw: the first images of as many classes as there are colours, picked at random with a fixed seed."""
    classes = np.unique(y)
    if len(classes) > len(COLOURS):
        classes = np.random.default_rng(SEED).choice(classes, len(COLOURS), replace=False)
    return np.flatnonzero(np.isin(y, classes))[:POINTS]


def tsne(x: np.ndarray) -> np.ndarray:
    """x: (N, D) -> (N, 2). On one thread, because sums over threads come in any order and t-SNE magnifies the last digit."""
    perplexity = min(30.0, (len(x) - 1) / 3)
    with threadpool_limits(limits=1):
        z: np.ndarray = TSNE(init="pca", perplexity=perplexity, random_state=SEED).fit_transform(x.astype(np.float64))
    return z


def tsne_figure(rows: dict[str, list[Panel]]) -> Figure:
    """rows: {data set: panels}, may be empty. t-SNE keeps neighbours and no distances, so the axes have no numbers."""
    if not rows:
        return text_figure("the methods of this figure are not in the run")
    width = max(len(panels) for panels in rows.values())
    figure = Figure(figsize=(3.4 * width + 0.9, 3.5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for row, (dataset, panels) in zip(axes, rows.items(), strict=True):
        for ax in row[len(panels) :]:
            ax.axis("off")
        for ax, (title, x, y) in zip(row, panels, strict=False):
            drawn = ten_classes(y)
            scatter(ax, tsne(x[drawn]), y[drawn], size=12)
            ax.set_title(title, fontsize=10)
        row[0].set_ylabel(dataset)
        class_legend(row[len(panels) - 1])
    return figure
