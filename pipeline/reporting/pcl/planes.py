"""Figures 1 and 6 of the pcl paper: features of a penultimate layer of two neurons."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.drawing import COLOURS, DRAWN, class_legend, class_style, scatter, text_figure
from pipeline.reporting.measurements import Plane, Planes

NONE = "the methods of this figure are not in the run"
PAIRS = 3  # clean and PGD image joined by a line, of each class


def attacked_figure(planes: dict[str, Planes], labels: dict[str, str]) -> Figure:
    """Figure 1: clean images and their PGD images after training. A row per data set, a column per method."""
    if not planes:
        return text_figure(NONE)
    width = max(len(own.methods) for own in planes.values())
    figure = Figure(figsize=(4.4 * width + 1.3, 4.1 * len(planes)), layout="constrained")
    axes = figure.subplots(len(planes), width, squeeze=False)
    for row, (dataset, own) in zip(axes, planes.items(), strict=True):
        for ax in row[len(own.methods) :]:
            ax.axis("off")
        for ax, (method, plane) in zip(row, own.methods.items(), strict=False):
            attacked_panel(ax, plane, own.label)
            right = 100 * plane.correct.mean()
            ax.set_title(
                f"{labels[method]}, {dataset}\nclean {plane.accuracy[-1]:.1f} %, PGD eps {own.eps:g}: {right:.1f} %",
                fontsize=10,
            )
        class_legend(row[len(own.methods) - 1])
    return figure


def attacked_panel(ax: Axes, plane: Plane, label: np.ndarray) -> None:
    """Clean images as small points in the colour of their class; a line leads from the first of each class to their PGD images, in
    the colour of the true class: filled where the prediction is still right, hollow at the end of a dark line where it is wrong."""
    clean, classes = plane.clean[-1], np.unique(label)
    scatter(ax, clean[:DRAWN], label[:DRAWN], size=7)
    for collection in ax.collections:
        collection.set_alpha(0.35)
    for place, name in enumerate(classes[: len(COLOURS)]):
        colour, marker = class_style(place, len(classes))
        for i in np.flatnonzero(label == name)[:PAIRS]:
            (x0, y0), (x1, y1), right = clean[i], plane.adversarial[i], plane.correct[i]
            ax.plot([x0, x1], [y0, y1], color="0.65" if right else "black", linewidth=0.7 if right else 1.0, zorder=3)
            face, edge = (colour, "0.3") if right else ("white", colour)
            ax.scatter(x1, y1, s=40, color=face, marker=marker, edgecolor=edge, linewidths=0.6 if right else 1.6, zorder=4)
    ax.plot([], [], color="0.65", marker="o", markerfacecolor="0.3", markeredgecolor="0.3", label="PGD image, right")
    ax.plot([], [], color="black", marker="o", markerfacecolor="white", markeredgecolor="0.3", label="PGD image, wrong")
    ax.tick_params(labelsize=7)


def progress_figure(planes: dict[str, Planes], labels: dict[str, str]) -> Figure:
    """Figure 6: clean images after different epochs. A row per data set and method, so that softmax, the control, shows too."""
    if not planes:
        return text_figure(NONE)
    rows = [(dataset, method, plane) for dataset, own in planes.items() for method, plane in own.methods.items()]
    width = max(len(plane.epochs) for *_, plane in rows)
    figure = Figure(figsize=(2.7 * width + 1.2, 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for row, (dataset, method, plane) in zip(axes, rows, strict=True):
        for ax in row[len(plane.epochs) :]:
            ax.axis("off")
        for place, ax in enumerate(row[: len(plane.epochs)]):
            progress_panel(ax, plane, place, planes[dataset].label)
        row[0].set_ylabel(f"{labels[method]}, {dataset}", fontsize=10)
        class_legend(row[len(plane.epochs) - 1])
    return figure


def progress_panel(ax: Axes, plane: Plane, place: int, label: np.ndarray) -> None:
    """Each panel has its own scale, which its ticks tell: the distances grow with training."""
    scatter(ax, plane.clean[place][:DRAWN], label[:DRAWN], size=7)
    if plane.centres is not None:
        centres = plane.centres[place]
        ax.scatter(
            centres[:, 0],
            centres[:, 1],
            s=70,
            color="white",
            marker="*",
            edgecolor="black",
            linewidths=0.9,
            zorder=4,
            label="centre",
        )
    ax.set_title(f"epoch {plane.epochs[place]}, {plane.accuracy[place]:.1f} %", fontsize=9)
    ax.tick_params(labelsize=7)
