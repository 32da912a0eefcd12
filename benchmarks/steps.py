"""What a training step costs with each loss, as a ratio to cross entropy alone: ResNet-110 and conv6, losses on layers 3, 4 and 5,
the project's own step. Each step is timed between two of cross entropy. `python -m benchmarks.steps`."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.floor import quick_peak, training_flops
from benchmarks.machine import best_precision
from benchmarks.measure import Size, between, quartiles, rounds, timed
from benchmarks.results import Report, Target, parse, run_main, start, write
from benchmarks.subjects import BASE, LAYERS, LOSSES, NETWORKS, STEP_LIMITS, blank_network, load_images, recipe_for
from pipeline.data.batches import to_float
from pipeline.data.image_set import Splits
from pipeline.jobs.learner import new_learner, on_device
from pipeline.params.schema import Params, load_params
from pipeline.training.adversary import clean_only
from pipeline.training.finite import check_parameters
from pipeline.training.loop import step

SIZES = {
    "seconds": Size(0, 180, 30, "of each network, or longer until --repeats are done"),
    "repeats": Size(1, 3, 20, "of every loss, at least"),
    "steps": Size(1, 1, 10, "in a row that are timed together"),
    "batch": Size(8, 128, 128, "images a step"),
}


def stepper(
    params: Params, network: str, method: str, splits: Splits, *, device: torch.device, precision: str, batch: int
) -> Callable[[], object]:
    """One training step of a method on the same batch each time."""
    on_layers = {"layers": LAYERS} if params.methods[method].loss else {}
    recipe = recipe_for(params, method, network, batch_size=batch, epochs=1, pad=0, flip=False, eps=0.0, **on_layers)
    learner = new_learner(recipe, splits, device, seed=0)
    learner.network.train()
    images, labels = (part[:batch] for part in on_device(splits.train, device))
    x = to_float(images)

    def one() -> None:
        step(learner, x, labels, clean_only, precision, 0.0)

    for _ in range(2):  # what is allocated, and on a GPU recorded, once
        one()
    check_parameters([learner.network, learner.criterion], f"{network} {method}")
    return one


def seconds_of(one: Callable[[], object], times: int, device: torch.device) -> float:
    """Of one of `times` in a row."""
    return timed(lambda: [one() for _ in range(times)], device)[1] / times


def time_losses(network: str, chosen: argparse.Namespace, device: torch.device) -> pd.DataFrame:
    """A row per repeat and loss: seconds of a step, and of the cross entropy steps around it."""
    params, splits = load_params(), load_images(network, chosen.data)
    options = {"device": device, "precision": chosen.precision, "batch": chosen.batch}
    work = {name: stepper(params, network, method, splits, **options) for name, method in LOSSES.items()}
    clocks = {name: partial(seconds_of, one, chosen.steps, device) for name, one in work.items()}
    base, rows = clocks.pop(BASE), []
    for repeat in tqdm(rounds(chosen.seconds, chosen.repeats), desc=f"{network}, every loss", unit="repeat", mininterval=0):
        for name, (seconds, ce) in between(base, clocks).items():
            rows.append((network, name, repeat, seconds, ce))
    return pd.DataFrame(rows, columns=["network", "loss", "repeat", "seconds", "ce_seconds"])


def summary(rows: pd.DataFrame, needs: Mapping[str, float]) -> tuple[pd.DataFrame, list[Target]]:
    """A line per network and loss. needs: by network the seconds that the FLOPs of a step take at the machine's peak."""
    lines, targets = [], []
    for network, of_network in rows.groupby("network", sort=False):
        need, ce = needs[str(network)], of_network["ce_seconds"]
        lines.append((str(network), BASE, f"{1000 * ce.median():.1f}", "1", f"{need / ce.median():.1%}", len(ce)))
        for loss, group in of_network.groupby("loss", sort=False):
            ratio, seconds = quartiles((group["seconds"] / group["ce_seconds"]).tolist()), group["seconds"].median()
            lines.append((str(network), str(loss), f"{1000 * seconds:.1f}", str(ratio), f"{need / seconds:.1%}", len(group)))
            if limit := STEP_LIMITS.get(str(network), {}).get(str(loss)):
                targets.append(Target(f"step with {loss} on {network}, in steps with {BASE}", ratio.median, most=limit))
    columns = ["network", "loss", "ms a step", f"times {BASE}, median (quartiles)", "share of the peak", "repeats"]
    return pd.DataFrame(lines, columns=columns), targets


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of train-*.parquet and test-*.parquet (default: digits, enlarged)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 where the device has hardware for it")
    return parser


def main() -> None:
    chosen, device = parse(arguments(), SIZES)
    chosen.precision = chosen.precision or best_precision(device)
    known = start(chosen, device)
    peak = quick_peak(device, chosen.precision)
    needs = {name: training_flops(*blank_network(name, device, chosen.batch)) / peak for name in chosen.networks}
    rows = pd.concat([time_losses(name, chosen, device) for name in chosen.networks], ignore_index=True)
    table, targets = summary(rows, needs)
    notes = [
        "Ratio: a step with the loss over the mean of the cross entropy steps before and after it.",
        f"Share of the peak: FLOPs of the network's forward and backward, over the time and {peak / 1e9:.0f} GFLOP/s, which a "
        f"matrix product reached just before in {chosen.precision}.",
    ]
    print(write(Report("steps", "A training step with each loss", rows, {"": table}, notes, targets), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
