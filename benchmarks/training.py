"""Training images a second: this pipeline's batches and step against a plain loop of DataLoader, torchvision transforms and float32
(benchmarks/plain.py), the same network, images and batch size, one epoch of each in turn. `python -m benchmarks.training`."""

import argparse
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim import SGD
from tqdm import tqdm

from benchmarks import plain
from benchmarks.floor import quick_peak, training_flops
from benchmarks.machine import best_precision
from benchmarks.measure import Size, quartiles, rounds, timed
from benchmarks.results import Report, Target, parse, run_main, start, write
from benchmarks.subjects import NETWORKS, blank_network, load_images, recipe_for
from pipeline.data.batches import training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.jobs.learner import new_learner, on_device
from pipeline.params.schema import Params, load_params
from pipeline.training.adversary import clean_only
from pipeline.training.loop import run_epoch

PAD, FLIP = 4, True  # of CIFAR-10, for both
LIMITS = {"resnet110": 2.2, "conv6": 1.8}
SIZES = {
    "seconds": Size(0, 150, 60, "of each network, or longer until --repeats are done"),
    "repeats": Size(1, 3, 5, "epochs of each loop, at least"),
    "steps": Size(2, 4, 300, "of an epoch"),
    "batch": Size(8, 128, 128, "images a step"),
}

Epoch = Callable[[], float]
"""One epoch -> the mean loss in it."""


def our_epoch(params: Params, network: str, splits: Splits, device: torch.device, precision: str, batch: int) -> Epoch:
    recipe = recipe_for(params, "softmax_fs", network, batch_size=batch, epochs=1, pad=PAD, flip=FLIP, eps=0.0)
    learner = new_learner(recipe, splits, device, seed=0)
    images, labels = on_device(splits.train, device)
    silent = tqdm(file=io.StringIO())

    def epoch() -> float:
        batches = training_batches(images, labels, learner.generator, batch_size=batch, pad=PAD, flip=FLIP)
        return run_epoch(learner, batches, clean_only, precision, silent, gamma=0.0)["loss"]

    return epoch


def plain_epoch(params: Params, network: str, splits: Splits, device: torch.device, batch: int, workers: int) -> Epoch:
    """The weights it starts from are those of our_epoch."""
    recipe = recipe_for(params, "softmax_fs", network, batch_size=batch, epochs=1, pad=PAD, flip=FLIP, eps=0.0)
    model = plain.plain_network(new_learner(recipe, splits, device, seed=0).network)
    settings = recipe.optimizer
    optimizer = SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    mean, std, pin = splits.mean.tolist(), splits.std.tolist(), device.type == "cuda"
    batches = plain.loader(splits.train, mean, std, batch_size=batch, pad=PAD, flip=FLIP, workers=workers, pin=pin)
    return lambda: plain.epoch(model, optimizer, settings.clip, batches, device)[0]


def enough(splits: Splits, count: int) -> Splits:
    """With `count` training images: the first of them, or all of them again and again."""
    index = np.arange(count) % len(splits.train.images)
    train = ImageSet(splits.train.images[index], splits.train.labels[index])
    return Splits(train, splits.validation, splits.test, splits.classes, splits.mean, splits.std)


def time_loops(network: str, chosen: argparse.Namespace, device: torch.device) -> pd.DataFrame:
    """A row per repeat: images a second of either loop in an epoch, after one that is not counted."""
    params, splits = load_params(), load_images(network, chosen.data)
    count, first = chosen.batch * chosen.steps, enough(splits, chosen.batch)
    loops = {
        "ours": our_epoch(params, network, enough(splits, count), device, chosen.precision, chosen.batch),
        "plain": plain_epoch(params, network, enough(splits, count), device, chosen.batch, chosen.workers),
    }
    our_epoch(params, network, first, device, chosen.precision, chosen.batch)()
    plain_epoch(params, network, first, device, chosen.batch, chosen.workers)()
    rows = []
    for repeat in tqdm(rounds(chosen.seconds, chosen.repeats), desc=f"{network}, both loops", unit="epoch", mininterval=0):
        rows += [(network, repeat, *(count / timed(epoch, device)[1] for epoch in loops.values()))]
    return pd.DataFrame(rows, columns=["network", "repeat", *loops])


def summary(rows: pd.DataFrame, needs: dict[str, dict[str, float]], precision: str) -> tuple[pd.DataFrame, list[Target]]:
    """A line per network. needs: by network and loop the seconds that the FLOPs of an image take at the machine's peak in that
    loop's precision."""
    lines, targets = [], []
    for network, group in rows.groupby("network", sort=False):
        ratio = quartiles((group["ours"] / group["plain"]).tolist())
        ours, theirs = group["ours"].median(), group["plain"].median()
        shares = [f"{needs[str(network)][loop] * rate:.1%}" for loop, rate in (("ours", ours), ("plain", theirs))]
        lines.append((str(network), precision, f"{ours:.4g}", f"{theirs:.4g}", str(ratio), *shares, len(group)))
        targets.append(Target(f"images/s on {network}, times those of the plain loop", ratio.median, least=LIMITS[str(network)]))
    columns = ["network", "ours in", "ours, images/s", "plain fp32, images/s", "ours over plain, median (quartiles)"]
    return pd.DataFrame(lines, columns=[*columns, "ours, share of the peak", "plain, share of the peak", "repeats"]), targets


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of train-*.parquet and test-*.parquet (default: digits, enlarged)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of ours (default: bf16 where there is hardware for it)")
    workers = min(4, os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=workers, help="of the plain loop's DataLoader (default: %(default)s)")
    return parser


def main() -> None:
    chosen, device = parse(arguments(), SIZES)
    chosen.precision = chosen.precision or best_precision(device)
    known = start(chosen, device)
    peaks = {"ours": quick_peak(device, chosen.precision), "plain": quick_peak(device, "fp32")}
    needs = {}
    for name in chosen.networks:
        flops = training_flops(*blank_network(name, device)) / 2  # of an image
        needs[name] = {loop: flops / peak for loop, peak in peaks.items()}
    rows = pd.concat([time_loops(name, chosen, device) for name in chosen.networks], ignore_index=True)
    table, targets = summary(rows, needs, chosen.precision)
    notes = [
        "The same weights, images, batch size, crop, flip and optimiser in both; an epoch of each in turn, cross entropy alone.",
        f"Share of the peak: of {peaks['ours'] / 1e9:.0f} GFLOP/s in {chosen.precision} for ours and {peaks['plain'] / 1e9:.0f} in "
        "fp32 for the plain loop, which a matrix product reached just before.",
        "The limits are for a device with hardware for bf16; see docs/benchmarks.md.",
    ]
    print(write(Report("training", "Training, images a second", rows, {"": table}, notes, targets), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
