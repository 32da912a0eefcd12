"""Figure 7 of the pcl paper, accuracy against eps, and all of its figures as files."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.drawing import as_drawn, save, text_figure
from pipeline.reporting.files import read_table
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.measurements import load_planes
from pipeline.reporting.pcl.embeddings import depth_rows, loss_rows, tsne_figure
from pipeline.reporting.pcl.planes import attacked_figure, progress_figure
from pipeline.reporting.published import paper_rows
from pipeline.reporting.run import Run

COLUMNS = 3  # panels side by side in figure 7
ATTACK_STYLES = {  # colour, marker, line
    "fgsm": ("#332288", "o", "-"),
    "bim": ("#117733", "s", "--"),
    "mim": ("#DDCC77", "^", "-."),
    "pgd": ("#882255", "D", ":"),
}


def save_pcl_figures(run: Run, data: Path, tables: Path, out: Path) -> None:
    """pcl_figure1.png and 4 to 7 in `out`. data: the folder of attacks/ and planes/."""
    run = as_drawn(run)
    attacks, labels, paper = data / "attacks", run.labels, paper_rows(run, "pcl")
    planes = load_planes(data / "planes", datasets=run.datasets, methods=run.planes)
    save(attacked_figure(planes, labels), out / "pcl_figure1.png")
    save(tsne_figure(loss_rows(attacks, run.datasets, paper, run.seeds[0])), out / "pcl_figure4.png")
    save(tsne_figure(depth_rows(attacks, run.datasets, paper, run.seeds[0])), out / "pcl_figure5.png")
    save(progress_figure(planes, labels), out / "pcl_figure6.png")
    sweep = read_table(tables / "pcl_figure7.csv")
    save(sweep_figure(sweep.assign(label=sweep["method"].map(labels))), out / "pcl_figure7.png")


def sweep_figure(sweep: pd.DataFrame) -> Figure:
    """Figure 7. sweep: `sweep_table`. A panel per data set and method, a line per attack, each from clean accuracy on."""
    panels = [rows for _, rows in sweep.groupby(["dataset", "method"], sort=False)]
    if not panels:
        return text_figure("No method was attacked beyond the eps of the tables.")
    height = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 3.0 * height), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, rows in zip(axes.flat, panels, strict=False):
        sweep_panel(ax, rows)
    for row in axes:
        row[0].set_ylabel("accuracy, %")
    axes[0, 0].legend(fontsize=8, loc="upper right")
    return figure


def sweep_panel(ax: Axes, rows: pd.DataFrame) -> None:
    """rows: one method's on one data set."""
    for attack, (colour, marker, dashes) in ATTACK_STYLES.items():
        line = rows[rows["attack"].isin(("clean", attack))].sort_values("eps")
        if (line["attack"] == attack).any():
            ax.plot(
                line["eps"],
                line["measured"],
                color=colour,
                marker=marker,
                linestyle=dashes,
                markersize=5,
                markerfacecolor="none",
                linewidth=1.4,
                label=attack_text(attack),
            )
    ax.set_title(f"{rows['label'].iloc[0]}, {rows['dataset'].iloc[0]}", fontsize=10)
    ax.set_xlabel("eps")
    ax.set_ylim(-3, 103)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
