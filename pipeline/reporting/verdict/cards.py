"""The picture on a model's card: accuracy against eps, what each attack broke, noise, features, and the worst examples."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from pipeline.reporting.drawing import COLOURS, drawable, features_panel, save
from pipeline.reporting.files import damaged, read_arrays, read_table
from pipeline.reporting.outcomes import ADAPTIVE, in_order, load_layers, load_noise
from pipeline.reporting.run import Run
from pipeline.reporting.verdict.lines import SUITES, attack_name
from pipeline.reporting.verdict.outcomes import verdict_file

SHOWN = 4  # worst examples
LONGEST = 8  # characters of a class name above them
POINTS = 500  # of the features' scatter; PCA is fitted on all
TILE = 64  # pixels of the figure a tile of the examples is at least drawn with
LINES = {"fgsm": "#88CCEE", "bim": "#44AA99", "mim": "#999933", "pgd": "#332288"}
TEXT = 10  # points; the page shows a card on a phone 322 pixels wide
WIDTH = 5.0  # inches
BAR = 0.155  # of height, a bar


class Examples(NamedTuple):
    """clean, adversarial: (E, C, H, W) in [0, 1], E at most `SHOWN`; label, prediction: names of the classes."""

    clean: np.ndarray
    adversarial: np.ndarray
    label: list[str]
    prediction: list[str]
    confidence: np.ndarray
    attack: list[str]


class Card(NamedTuple):
    """curves, broken: one method's of the tables of the same names; noise: MSE of each image, or none; features: (N, D) of the last
    layer on clean test images, with labels (N,)."""

    eps: float
    curves: pd.DataFrame
    broken: pd.DataFrame
    noise: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    examples: Examples


def load_examples(folder: Path, *, dataset: str, method: str, seed: int) -> Examples:
    """The first of examples.npz, the most confident."""
    path = verdict_file(folder, dataset, method, seed, "examples.npz")
    arrays = read_arrays(path)
    shown = ("clean", "adversarial", "label", "prediction", "confidence", "attack")
    if lacking := {*shown, "classes"} - set(arrays):
        raise damaged(path, ValueError(f"it lacks {min(lacking)}"))
    classes = [*drawable({f"no. {place}": str(name) for place, name in enumerate(arrays["classes"])}).values()]
    first = {name: arrays[name][:SHOWN] for name in shown}
    label, prediction = ([classes[i] for i in first[name]] for name in ("label", "prediction"))
    return Examples(first["clean"], first["adversarial"], label, prediction, first["confidence"], [str(a) for a in first["attack"]])


def card_figure(card: Card) -> Figure:
    """One below the other, so that text is legible on a phone too: curves, what each attack broke, features (beside noise, where it
    was measured), the examples."""
    bars = BAR * (bar_places(card.broken)[-1] + 2) if len(card.broken) else 0.5
    figure = Figure(figsize=(WIDTH, 5.5 + bars))

    def panel(left: float, above: float, width: float, height: float) -> Axes:
        """In inches; above: from the top of the figure to that of the panel."""
        whole = figure.get_figheight()
        return figure.add_axes((left / WIDTH, 1 - (above + height) / whole, width / WIDTH, height / whole))

    curves_panel(panel(0.38, 0.3, 4.5, 1.6), card.curves, card.eps)
    broken_panel(panel(1.9, 2.5, 2.98, bars), card.broken)
    left = 2.65 if len(card.noise) else 0.38
    if len(card.noise):
        noise_panel(panel(0.38, 3.1 + bars, 1.95, 1.15), card.noise)
    with threadpool_limits(limits=1):  # small matrices: threads wait for each other
        features_panel(panel(left, 3.1 + bars, WIDTH - 0.12 - left, 1.15), card.features, card.labels, drawn=POINTS)
    figure.axes[-1].set_title(f"PCA: {figure.axes[-1].get_title()}")
    examples_panel(panel(0.1, 5.02 + bars, 4.8, 0.45), card.examples)
    for ax in figure.axes:
        title = ax.get_title()
        ax.set_title("")
        ax.set_title(title, loc="left", fontsize=TEXT)
        ax.tick_params(length=2.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def curves_panel(ax: Axes, curves: pd.DataFrame, eps: float) -> None:
    """Accuracy against eps on a square root scale, which keeps small eps apart and 1 on the page. A line an attack; a point for one
    that ran at a single eps. Each line starts at the clean accuracy."""
    clean = curves[curves["eps"] == 0].head(1)
    attacks = in_order(curves.loc[curves["eps"] > 0, "attack"], LINES)
    for place, attack in enumerate(attacks):
        rows = curves[(curves["attack"] == attack) & (curves["eps"] > 0)].sort_values("eps")
        colour, name = LINES.get(attack, COLOURS[5 + place % 4]), attack_name(attack)
        if len(rows) == 1:
            ax.plot(rows["eps"], rows["measured"], marker="D", markersize=4, linestyle="none", color=colour, label=name)
        else:
            line = pd.concat([clean, rows])
            ax.plot(line["eps"], line["measured"], marker="o", markersize=2.5, linewidth=1.3, color=colour, label=name)
    ax.axvline(eps, color="0.75", linewidth=0.8, linestyle="--")
    most = max([eps, *curves["eps"]])
    ax.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ax.set_xlim(0, most * 1.03)
    ax.set_xticks([tick for tick in (0, eps / 3, eps, 0.3, 0.6, 1) if tick <= eps or 1.6 * eps < tick <= most])
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.3g}")
    ax.set_ylim(0, 102)
    ax.tick_params(labelsize=TEXT - 1)
    ax.set_title(f"accuracy (%) against eps, on a square root scale; dashed: {eps:g}")
    if attacks:
        ax.legend(fontsize=TEXT - 1, frameon=False, borderpad=0, labelspacing=0.25, handlelength=1.4)


def bar_places(broken: pd.DataFrame) -> np.ndarray:
    """A bar an attack, with room above a suite for its name."""
    starts = broken["suite"] != broken["suite"].shift()
    return np.arange(len(broken)) + 1.1 * starts.cumsum().to_numpy()


def broken_panel(ax: Axes, broken: pd.DataFrame) -> None:
    """A bar an attack: what it left, and in the pale part what it broke of the images that were right before it."""
    if broken.empty:
        empty(ax, "no attack measured")
        return
    starts, places = broken["suite"] != broken["suite"].shift(), bar_places(broken)
    ax.barh(places, broken["left"], color="#332288", height=0.75)
    ax.barh(places, broken["broken"], left=broken["left"], color="#DDCC77", height=0.75)
    for place, suite in zip(places[starts], broken.loc[starts, "suite"], strict=True):
        ax.text(0, place - 0.95, SUITES.get(suite, suite), fontsize=TEXT - 1, va="center", color="0.3", fontstyle="italic")
    ax.set_yticks(places, [attack_name(attack) for attack in broken["attack"]])
    ax.set_xlim(0, 102)
    ax.set_ylim(places[-1] + 0.6, places[0] - 1.5)
    ax.tick_params(axis="x", labelsize=TEXT - 1)
    ax.set_title("images (%): right, pale: broken")
    ax.tick_params(axis="y", left=False, labelsize=TEXT - 1)


def noise_panel(ax: Axes, noise: np.ndarray) -> None:
    ax.hist(noise, bins=30, color="#44AA99")
    ax.axvline(float(np.median(noise)), color="black", linewidth=1)
    ax.set_xlim(left=0)
    ax.locator_params(nbins=6)
    ax.tick_params(labelsize=TEXT - 1)
    ax.set_title("noise that fools (MSE)")


def montage(examples: Examples) -> tuple[np.ndarray, float]:
    """(picture (H, W, 3), k): for each example image, 0.5 + k x perturbation and adversarial image side by side; k: the largest
    whole number that keeps the perturbations in range."""
    difference = examples.adversarial - examples.clean
    k = max(1.0, np.floor(0.5 / max(float(np.abs(difference).max()), 1e-6)))
    tiles = np.stack([examples.clean, 0.5 + k * difference, examples.adversarial], axis=1).clip(0, 1)  # (E, 3, C, H, W)
    tiles = tiles.repeat(3, axis=2) if tiles.shape[2] == 1 else tiles
    scale = max(1, round(TILE / tiles.shape[-1]))
    tiles = tiles.repeat(scale, axis=3).repeat(scale, axis=4)
    gap = max(1, tiles.shape[-1] // 12)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, 0), (0, gap)), constant_values=1.0)
    rows = tiles.transpose(0, 3, 1, 4, 2).reshape(len(tiles), tiles.shape[3], -1, 3)  # (E, H, three tiles and gaps, 3)
    rows = np.pad(rows, ((0, 0), (0, 0), (0, 3 * gap), (0, 0)), constant_values=1.0)
    return np.concatenate(list(rows), axis=1), k


def examples_panel(ax: Axes, examples: Examples) -> None:
    """One picture; above each example its label, what it is taken for, with what confidence, and the attack."""
    ax.axis("off")
    if not len(examples.clean):
        empty(ax, "worst examples: no attack broke an image")
        return
    picture, k = montage(examples)
    height, width = picture.shape[:2]
    slot = width / len(examples.clean)
    ax.imshow(picture)
    for i, (label, prediction, attack) in enumerate(zip(examples.label, examples.prediction, examples.attack, strict=True)):
        text = f"{brief(label)} → {brief(prediction)}\n{100 * examples.confidence[i]:.0f} %, {attack_name(attack)}"
        ax.text(i * slot, -0.07 * height, text, fontsize=TEXT - 1, va="bottom")
    ax.set_xlim(-0.5, SHOWN * slot - 0.5)  # as large for one example as for all
    ax.set_anchor("SW")
    text = f"worst: image, perturbation x {k:.0f}, adversarial; label → prediction"
    ax.text(0, -1.02 * height, text, fontsize=TEXT, va="bottom")


def brief(name: str) -> str:
    """At most as many characters as there is room for above an example."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def empty(ax: Axes, why: str) -> None:
    ax.axis("off")
    ax.text(0.5, 0.5, why, ha="center", va="center", fontsize=TEXT, color="0.35", transform=ax.transAxes)


def load_card(data: Path, tables: dict[str, pd.DataFrame], *, dataset: str, method: str, seeds: list[int], eps: float) -> Card:
    """data: the folder of attacks/ and verdict/; tables: `curves` and `broken`. Features and examples of the first seed."""
    own = {name: table[(table["dataset"] == dataset) & (table["method"] == method)] for name, table in tables.items()}
    layers, labels = load_layers(data / "attacks", dataset=dataset, method=method, seed=seeds[0])
    noise = load_noise(data / "attacks", datasets=[dataset], methods=[method], seeds=seeds, stops=["sample"])
    examples = load_examples(data / "verdict", dataset=dataset, method=method, seed=seeds[0])
    broken = own["broken"][~own["broken"]["attack"].str.startswith(ADAPTIVE)]  # those stand in the table, there is no room here
    mse, (features,) = noise["sample"][dataset].get(method, np.empty(0)), layers.values()
    return Card(eps, own["curves"], broken, mse, features, labels, examples)


def save_cards(run: Run, data: Path, out: Path) -> None:
    """A picture for each method on each data set, out/<dataset>/<method>.png. data: the folder of attacks/, verdict/ and
    report/."""
    frames = {name: read_table(data / "report" / f"{name}.csv") for name in ("curves", "broken")}
    for dataset, own in run.datasets.items():
        for method in run.methods:
            card = load_card(data, frames, dataset=dataset, method=method, seeds=run.seeds, eps=own.headline_eps)
            save(card_figure(card), out / dataset / f"{method}.png", dpi=110, colours=64, tight=False)
