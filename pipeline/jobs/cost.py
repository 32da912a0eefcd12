"""Stage cost: what an epoch by each loss takes, side by side (pcl table 12)."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from pipeline.data.batches import training_batches
from pipeline.data.image_set import Splits, load_splits
from pipeline.jobs.learner import method_adversary, new_learner, on_device
from pipeline.params.schema import Dataset, Params, pick
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path
from pipeline.training.loop import run_epoch


def time_methods(params: Params, dataset: str) -> None:
    """Times training epochs of cost.methods in turn, so that a busy moment meets all alike, after one epoch each that is not
    counted. Writes data/cost/DATASET.csv: a row per method and repeat; epochs: of the method's training."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    device = set_up_device(params.compute.device, params.compute.threads)
    splits = load_splits(f"data/{dataset}.npz")
    timed = {name: _epoch(params, data, name, splits, device) for name in params.cost.methods}
    rows = []
    for repeat in tqdm(range(params.cost.repeats + 1), desc="repeats", unit="epoch of each", mininterval=0.5):
        for name, epoch in timed.items():
            start = time.perf_counter()
            epoch()
            seconds = round(time.perf_counter() - start, 4)
            epochs = data.training.epochs[params.methods[name].epochs]
            rows.append({"method": name, "repeat": repeat, "seconds": seconds, "epochs": epochs})
    table = pd.DataFrame([row for row in rows if row["repeat"]]).assign(
        images=len(splits.train.images),
        network=data.networks[params.methods[params.cost.methods[0]].network].name,
        batch_size=data.training.batch_size,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )
    if is_main():
        with atomic_path(Path("data/cost", f"{dataset}.csv")) as path:
            table.to_csv(path, index=False)
    print(table.groupby("method", sort=False)["seconds"].median().to_string())


def _epoch(params: Params, data: Dataset, name: str, splits: Splits, device: torch.device) -> Callable[[], None]:
    """One epoch of a method, to be called again and again; run_epoch ends by reading its sums, so it has waited for the device."""
    recipe = params.methods[name]
    learner = new_learner(data, recipe, splits, device, seed=params.run.seeds[0])
    images, labels = on_device(splits.train, device)
    batch_size, augment = data.training.batch_size, data.training.augment
    adversary, silent = method_adversary(recipe, data.training), tqdm(desc=name, file=io.StringIO())
    gamma = recipe.awp.gamma if recipe.awp else 0.0

    def epoch() -> None:
        batches = training_batches(images, labels, learner.generator, batch_size=batch_size, pad=augment.pad, flip=augment.flip)
        run_epoch(learner, batches, adversary, params.compute.precision, silent, gamma=gamma)

    return epoch
