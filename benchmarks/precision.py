"""Whether bf16 costs accuracy: methods of the digits run trained and attacked in fp32 and in bf16, over several seeds. Needs no
hardware for bf16 (without it, it is slow). In the project's folder, after `make repro`: `python -m benchmarks.precision`."""

import argparse
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import NoReturn, get_args

import pandas as pd
import torch
from scipy.stats import ttest_ind
from torch import Tensor
from tqdm import tqdm

from benchmarks.machine import Precision
from benchmarks.measure import Size
from benchmarks.results import Report, Target, parse, run_main, start, write
from pipeline.attacks import ATTACKS
from pipeline.data.image_set import Splits, load_splits
from pipeline.evaluation.robustness import attackable, measure, summary_metrics, trials
from pipeline.jobs.learner import new_learner, train
from pipeline.jobs.trained import test_images
from pipeline.models.network import Network
from pipeline.params import resolve
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import Params, load_params
from pipeline.runtime.checkpoint import load_weights

DATASET = "digits"
SIZES = {"seeds": Size(2, 4, 8, "of weights, prototypes and batches"), "epochs": Size(1, 20, 20, "of each training")}
CHANCE = 0.05  # how often all differences together would look like this if there were none
FEWER = 1.0  # % of the images that bf16 attacks may leave more than fp32 attacks on the same models, in the mean


def trained(
    params: Params, splits: Splits, method: str, seed: int, precision: Precision, epochs: int, device: torch.device
) -> Network:
    """As stage train does it, from the softmax model of make repro where the method says so."""
    recipe = resolve.recipe(params, DATASET, method, epochs=epochs)
    learner = new_learner(recipe, splits, device, seed)
    if recipe.init == "softmax":
        load_weights(learner.network, Path("models", DATASET, "softmax/0.pt"), device)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "last.pt")
        train(learner, recipe, splits, precision=precision, checkpoint=checkpoint, params={}, on_epoch=lambda row, rate: None)
    return learner.trained()[0]


def accuracies(
    params: Params, network: Network, images: Tensor, labels: Tensor, eps: list[float], seed: int, precision: Precision
) -> dict[str, float]:
    """In %: `clean`, and `pgd_EPS` under PGD as params.yaml has it, computed in `precision`, judged in fp32."""
    attack = partial(ATTACKS["pgd"], **params.attacks["pgd"].options, stop="sample")
    plan = trials({"pgd": attack}, eps, params.datasets[DATASET].evaluation.batch_size)
    outcomes, _ = measure(attackable(network, images, precision), images, labels, plan, seed=seed, keep=0)
    return {name.removeprefix("accuracy/"): percent for name, percent in summary_metrics(outcomes).items()}


def summary(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Target]]:
    """A line per method and kind of accuracy: mean and standard deviation over seeds; what bf16 in training and attack differs by,
    with the p of Welch's t test; and what bf16 in the attack alone differs by on the fp32 models."""
    lines, chances, attacks = [], [], []
    for (method, what), group in rows.groupby(["method", "accuracy"], sort=False):
        by = {key: part.set_index("seed")["percent"] for key, part in group.groupby(["training", "attack"])}
        full, half, mixed = by["fp32", "fp32"], by["bf16", "bf16"], by["fp32", "bf16"]
        same = full.std() == half.std() == 0 and full.mean() == half.mean()
        chance = 1.0 if same else float(ttest_ind(full, half, equal_var=False).pvalue)
        chances.append(chance)
        line = {"method": method, "accuracy": what, "seeds": str(len(full))}
        line |= {f"{name}, %": f"{found.mean():.2f} ± {found.std():.2f}" for name, found in (("fp32", full), ("bf16", half))}
        line |= {"bf16 less fp32": f"{half.mean() - full.mean():+.2f}", "p": f"{chance:.2f}"}
        line["the attack alone"] = "" if what == "clean" else f"{(mixed - full).mean():+.2f}"
        lines.append(line)
        attacks += [] if what == "clean" else [float((mixed - full).mean())]
    return pd.DataFrame(lines), [
        Target(
            "smallest p of all differences between bf16 and fp32, times their number",
            min(1.0, min(chances) * len(chances)),
            least=CHANCE,
        ),
        Target(
            "% of the images that attacks in bf16 leave more than in fp32 on the same models, the worst mean",
            max(attacks),
            most=FEWER,
        ),
    ]


def report(rows: pd.DataFrame) -> Report:
    shown, targets = summary(rows)
    notes = [
        "Mean ± standard deviation over seeds; accuracy on the test images, always judged in fp32.",
        "bf16: trained and attacked in it. The attack alone: trained in fp32, attacked in bf16, less attacked in fp32.",
        "p: Welch's t test. Of n tests the smallest is below 0.05 / n once in 20 times if bf16 changes nothing.",
    ]
    return Report("precision", "Accuracy in bf16 and in fp32", rows, {"": shown}, notes, targets)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["softmax_fs", "pcl_deep", "hcp", "madry"], help="default: %(default)s")
    parser.add_argument("--eps", nargs="+", type=float, default=[0.05, 0.15], help="of PGD (default: %(default)s)")
    return parser


def of_seed(
    params: Params, splits: Splits, chosen: argparse.Namespace, seed: int, device: torch.device, bar: "tqdm[NoReturn]"
) -> pd.DataFrame:
    """A row per model, precision of the attack and kind of accuracy. `bar` counts models."""
    images, labels = test_images(splits, params.datasets[DATASET].evaluation.images, device)
    rows = []
    for method, precision in product(chosen.methods, get_args(Precision)):
        network = trained(params, splits, method, seed, precision, chosen.epochs, device)
        for attack in get_args(Precision) if precision == "fp32" else [precision]:
            found = accuracies(params, network, images, labels, chosen.eps, seed, attack)
            rows += [(method, seed, precision, attack, what, percent) for what, percent in found.items()]
        bar.update()
    return pd.DataFrame(rows, columns=["method", "seed", "training", "attack", "accuracy", "percent"])


def main() -> None:
    chosen, device = parse(arguments(), SIZES, threads=1)
    if chosen.seeds < 2:
        raise ValueError(
            f"--seeds must be at least 2, got {chosen.seeds}: the spread over seeds is what differences are held against"
        )
    params, known, splits = load_params(lookups=LOOKUPS), start(chosen, device), load_splits(f"data/{DATASET}.npz")
    rows, text = pd.DataFrame(), ""
    with tqdm(total=chosen.seeds * len(chosen.methods) * len(get_args(Precision)), unit="model") as bar:
        for seed in range(chosen.seeds):
            rows = pd.concat([rows, of_seed(params, splits, chosen, seed, device, bar)], ignore_index=True)
            if seed > 0:
                text = write(report(rows), chosen.out, known)
    print(text, end="")


if __name__ == "__main__":
    run_main(main)
