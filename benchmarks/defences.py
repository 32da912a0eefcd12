"""A short training of softmax, PCL, HCP and PGD adversarial training with ResNet-110, by the recipes of params.yaml, and what FGSM,
BIM, MIM, PGD and AutoAttack leave of each: for a machine with a GPU and a data set of colour images, such as CIFAR-10.
`python -m benchmarks.defences --data FOLDER`."""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks import attacks, autoattack
from benchmarks.floor import quick_peak, training_flops
from benchmarks.machine import best_precision
from benchmarks.measure import Size, timed
from benchmarks.peers import Task, left
from benchmarks.results import Report, parse, run_main, start, write
from benchmarks.subjects import blank_network, first_of, load_images, recipe_for
from benchmarks.training import FLIP, PAD
from pipeline.data.batches import to_float
from pipeline.data.image_set import Splits
from pipeline.evaluation.robustness import attackable
from pipeline.jobs.learner import new_learner, train
from pipeline.models.network import Network
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import Params, load_params

NETWORK = "resnet110"
DEFENCES = ["softmax_fs", "pcl_deep", "hcp", "madry"]  # methods of params.yaml; the first is what the others start from
COUNTED = ["fgsm", "bim", "mim", "pgd"]
SIZES = {
    "batch": Size(16, 128, 256, "images a training step"),
    "train_images": Size(32, 1280, 50000, "at most"),
    "softmax_epochs": Size(1, 10, 20, "of the softmax model"),
    "epochs": Size(1, 5, 10, "of PCL and HCP, from its weights"),
    "adversarial_epochs": Size(1, 2, 8, "of adversarial training, from its weights"),
    "images": Size(8, 100, 1000, "of the test split to attack, the first"),
    "attack_batch": Size(8, 50, 500, "of them at a time"),
    "queries": Size(10, 500, 5000, "of Square; 5000 is AutoAttack's standard version"),
    "steps": Size(2, 20, 100, "of AutoAttack's other parts; 100 is its standard version"),
}


def trained(
    params: Params, method: str, epochs: int, splits: Splits, chosen: argparse.Namespace, device: torch.device, base: Any
) -> tuple[Network, float]:
    """base: a state dict to start from, for a method that does -> the network, and the seconds that training took."""
    recipe = recipe_for(params, method, NETWORK, batch_size=chosen.batch, epochs=epochs, pad=PAD, flip=FLIP, eps=chosen.eps)
    learner = new_learner(recipe, splits, device, seed=chosen.seed)
    if recipe.init == "softmax":
        learner.network.load_state_dict(base)
    with tempfile.TemporaryDirectory() as folder:
        work = partial(train, learner, recipe, splits, precision=chosen.precision, checkpoint=Path(folder, "last.pt"))
        _, seconds = timed(lambda: work(params={}, on_epoch=lambda row, rate: None), device)
    learner.network.load_state_dict(learner.kept()["network"])
    return learner.network, seconds


def robustness(params: Params, network: Network, x: Tensor, y: Tensor, chosen: argparse.Namespace) -> dict[str, float]:
    """In %: `clean`, each of COUNTED, `autoattack`; and the seconds of each attack."""
    found, victim = {}, attackable(network.eval(), x, chosen.precision)
    task = Task(network, x, y, "linf", chosen.eps, network.classes, chosen.seed, chosen.attack_batch)
    found["clean"] = 100 * left(task, x) / len(x)
    for name in COUNTED:
        x_adv, seconds = timed(partial(attacks.ours, task, name, params.attacks[name].options, victim=victim), x.device)
        found |= {name: 100 * left(task, x_adv) / len(x), f"{name}_seconds": seconds}
    parts = autoattack.standard_parts(params, steps=chosen.steps, queries=chosen.queries)
    x_adv, seconds = timed(partial(autoattack.ours, task, parts, victim=victim), x.device)
    return found | {"autoattack": 100 * left(task, x_adv) / len(x), "autoattack_seconds": seconds}


def report(rows: pd.DataFrame, chosen: argparse.Namespace) -> Report:
    shown = pd.DataFrame({"method": rows["method"], "epochs": rows["epochs"].astype(str)})
    shown["images/s"], shown["training, s"] = rows["rate"].map("{:.0f}".format), rows["seconds"].map("{:.0f}".format)
    shown["share of the peak"] = rows["share"].map("{:.1%}".format)
    shown["AutoAttack, %"] = rows["autoattack"].map("{:.1f}".format)
    for name in ["clean", *COUNTED]:
        shown[f"{name}, %"] = rows[name].map("{:.1f}".format)
    for name in [*COUNTED, "autoattack"]:
        shown[f"{name}, s"] = rows[f"{name}_seconds"].map("{:.2f}".format)
    notes = [
        f"Accuracy in % on the first {chosen.images} test images, l-inf at eps {chosen.eps:.4f}; one seed, so one image is "
        f"{100 / chosen.images:.1f}. What is left by AutoAttack is what holds.",
        "Short trainings, to see that it runs and how fast: the papers train 200 to 400 epochs. Batch size, epochs and precision "
        "stand below, learning rates and losses are those of params.yaml.",
        "AutoAttack: its parts as params.yaml has them, `autoattack.standard`, with the steps and queries below.",
        "Share of the peak: FLOPs of the network's forward and backward in training steps alone, over the time and the rate of a "
        "matrix product in that precision; the steps of the adversary are not counted.",
    ]
    return Report("defences", "A short training of each defence", rows, {"": shown}, notes, [])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defences", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of train-*.parquet and test-*.parquet (default: digits, enlarged)")
    parser.add_argument("--methods", nargs="+", default=DEFENCES, help="the first is softmax_fs (default: %(default)s)")
    parser.add_argument("--eps", type=float, default=8 / 255, help="of adversarial training and attacks (default: 8/255)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 where the device has hardware for it")
    return parser


def main() -> None:
    chosen, device = parse(arguments(), SIZES)
    chosen.precision = chosen.precision or best_precision(device)
    params, known = load_params(lookups=LOOKUPS), start(chosen, device)
    if chosen.methods[0] != DEFENCES[0]:
        raise ValueError(f"--methods must begin with {DEFENCES[0]}, which the others start from, got {chosen.methods[0]}")
    if unknown := [name for name in chosen.methods if name not in params.methods]:
        raise ValueError(f"--methods: params.yaml has no {', '.join(unknown)}")
    splits, rows, text, base = first_of(load_images(NETWORK, chosen.data), chosen.train_images), [], "", None
    x, y = to_float(torch.from_numpy(splits.test.images).to(device)), torch.from_numpy(splits.test.labels).to(device)
    x, y = x[: chosen.images], y[: chosen.images]
    need = training_flops(*blank_network(NETWORK, device)) / 2 / quick_peak(device, chosen.precision)  # seconds an image
    for method in chosen.methods:
        adversarial = params.methods[method].adversary is not None
        epochs = chosen.adversarial_epochs if adversarial else chosen.softmax_epochs if base is None else chosen.epochs
        network, seconds = trained(params, method, epochs, splits, chosen, device, base)
        base = network.state_dict() if base is None else base
        rate = epochs * len(splits.train.images) / seconds
        row = {"method": method, "epochs": epochs, "seconds": seconds, "rate": rate, "share": rate * need}
        rows.append(row | robustness(params, network, x, y, chosen))
        print(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items() if name != "method"), file=sys.stderr)
        text = write(report(pd.DataFrame(rows), chosen), chosen.out, known)
    print(text, end="")


if __name__ == "__main__":
    run_main(main)
