"""What C&W leaves with the run's own steps and with the 1000 of 0.01 of the PCL paper (table 2), on the same models and images:
`python -m benchmarks.cw_steps --folder profiles/fashion_mnist`, after that run."""

import argparse
from contextlib import chdir
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.measure import Size
from benchmarks.results import Report, Target, parse, run_main, start, write
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import attackable, measure
from pipeline.jobs.trained import model_of, test_images
from pipeline.jobs.trials import cw_trials
from pipeline.params.choices import AttackChoice
from pipeline.params.items import AttackItem, read_item
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params

PAPER = {"steps": 1000, "learning_rate": 0.01}
SIZES = {"images": Size(8, 100, 1000, "of the test split"), "steps": Size(5, 1000, 1000, "of the paper's C&W")}
MORE = 2.0  # % of the images that the run's steps may leave more than the paper's, in the mean over models and c


def of_model(dataset: str, method: str, seed: int, images: int, steps: int, device: torch.device) -> pd.DataFrame:
    """A row per c: accuracy in % with the run's steps and with the paper's, how many images only one of them breaks, and the median
    l2 distance of the images that both break. The current folder is the run's. Raises ValueError for a method without C&W."""
    item, splits = read_item(AttackItem, dataset, "attack", method), load_splits(f"data/{dataset}.npz")
    if item.cw is None:
        raise ValueError(f"--methods: {method} has no cw in its `measure`")
    network, _, _ = model_of(dataset, method, seed, splits, device)
    x, y = test_images(splits, images, device)
    victim = attackable(network, x, item.compute.precision)
    frames = []
    for options in (item.cw.options, {**item.cw.options, **PAPER, "steps": steps}):
        plan = cw_trials(AttackChoice(name="cw", **options), item.c, item.batch_size, images)
        outcomes, _ = measure(victim, x, y, plan, seed=seed, keep=0)
        frames.append(outcomes[outcomes["attack"] == "cw"].set_index("image"))
    rows = [
        {"dataset": dataset, "method": method, "c": c, **compared(*(frame[frame["eps"] == c] for frame in frames))} for c in item.c
    ]
    return pd.DataFrame(rows)


def compared(run: pd.DataFrame, paper: pd.DataFrame) -> dict[str, float]:
    """Rows of the same images under one c."""
    both = ~run["correct"] & ~paper["correct"] & (run["l2"] > 0)  # 0: misclassified as it is
    return {
        "images": len(run),
        **{"accuracy_run": 100 * run["correct"].mean(), "accuracy_paper": 100 * paper["correct"].mean()},
        **{"only_run": (~run["correct"] & paper["correct"]).sum(), "only_paper": (run["correct"] & ~paper["correct"]).sum()},
        **{"l2_run": run.loc[both, "l2"].median(), "l2_paper": paper.loc[both, "l2"].median()},
    }


def report(rows: pd.DataFrame, steps: int) -> Report:
    notes = [
        f"run: the steps of params.yaml; paper: {steps} steps of {PAPER['learning_rate']}. accuracy: in %, after the attack.",
        "only: images that only these steps break; l2: median distance of those that both break.",
    ]
    more = float((rows["accuracy_run"] - rows["accuracy_paper"]).mean())
    target = Target("% of the images that the run's C&W leaves more than the paper's, mean over models and c", more, most=MORE)
    return Report("cw_steps", "C&W by steps", rows, {"": rows.round(3).astype(str)}, notes, [target])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cw_steps", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("profiles/fashion_mnist"), help="of a run (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=["softmax_fs", "pcl_deep", "madry"], help="default: %(default)s")
    chosen, device = parse(parser, SIZES, threads=1)
    known, rows, folder = start(chosen, device), pd.DataFrame(), chosen.out.resolve()
    with chdir(chosen.folder):
        run = load_params(lookups=LOOKUPS).run
        for method in tqdm(chosen.methods, unit="model"):
            rows = pd.concat([rows, of_model(run.datasets[0], method, run.seeds[0], chosen.images, chosen.steps, device)])
            text = write(report(rows, chosen.steps), folder, known)
    print(text, end="")


if __name__ == "__main__":
    run_main(main)
