"""What several figures are drawn with. Agg only, and the same input gives the same bytes."""

import sys
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image
from sklearn.decomposition import PCA

from pipeline.reporting.run import Run

# Paul Tol's muted scheme, safe for colour-blind readers; markers tell classes apart without colour
COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777")
rcParams["text.parse_math"] = False  # a $ in a label is a $
MARKERS = "osD^vP*X<>"
DRAWN = 2000  # points of a scatter plot; PCA is fitted on all
NAMED = 3  # names in a warning


def save(figure: Figure, path: Path, *, dpi: int = 150, colours: int = 256, tight: bool = True) -> None:
    """A PNG with a palette, a third of the size: pictures stand in git and inside the report."""
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight" if tight else None, pil_kwargs={"compress_level": 1})
    with Image.open(buffer) as image:
        small = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(path, optimize=True)


def text_figure(text: str) -> Figure:
    """In place of a figure that the run has nothing to show in."""
    figure = Figure(figsize=(4.3, 3.5))
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return figure


def drawable(names: Mapping[str, str]) -> dict[str, str]:
    """names: by what is drawn in place of one with letters that the figures' font lacks, of which a warning tells once."""
    fonts = (get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"])
    known = {ord("\n")}.union(*(font.get_charmap() for font in fonts))
    undrawn = [instead for instead, name in names.items() if not known.issuperset(map(ord, name))]
    if undrawn:
        more = f" and {len(undrawn) - NAMED} more" if len(undrawn) > NAMED else ""
        _warn_once(", ".join(f"{instead} for {names[instead]!r}" for instead in undrawn[:NAMED]) + more)
    return {**names, **{instead: instead for instead in undrawn}}


@cache
def _warn_once(replaced: str) -> None:
    print(f"warning: figures show {replaced}: matplotlib's font (font.family) lacks letters of these names", file=sys.stderr)


def as_drawn(run: Run) -> Run:
    """The run with labels that can be drawn: of the others the method's key."""
    labels = drawable(run.labels)
    return run._replace(methods={name: method._replace(label=labels[name]) for name, method in run.methods.items()})


def class_legend(ax: Axes) -> None:
    """Right of the axes; nothing where there are too many classes to be told apart."""
    handles, names = ax.get_legend_handles_labels()
    if len(handles) <= len(COLOURS) + 2:
        ax.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, markerscale=1.6)


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
