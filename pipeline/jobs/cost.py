"""Stage cost: what an epoch by each loss takes, side by side (pcl table 12)."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from pipeline.data.image_set import Splits, load_splits
from pipeline.jobs.learner import new_learner, recipe_adversary, recipe_batches
from pipeline.params.items import CostItem, Recipe
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path
from pipeline.training.loop import run_epoch

COLUMNS = ("dataset", "method", "repeat", "seconds", "epochs", "images", "network", "batch_size", "device", "threads")


def time_methods(item: CostItem) -> None:
    """Times training epochs of the methods in turn, so that a busy moment meets all alike, after one epoch each that is not
    counted. Writes data/cost/DATASET.csv: a row per method and repeat; epochs: of the method's training."""
    device = set_up_device(item.compute.device, item.compute.threads)
    splits = load_splits(f"data/{item.dataset}.npz")
    timed = {name: one_epoch(recipe, splits, device, item.compute.precision, item.seed) for name, recipe in item.recipes.items()}
    rows = []
    for repeat in tqdm(range(item.repeats + 1), desc="repeats", unit="epoch of each", mininterval=0.5):
        for name, epoch in timed.items():
            start = time.perf_counter()
            epoch()
            recipe = item.recipes[name]
            about = {"epochs": recipe.epochs, "network": recipe.network.name, "batch_size": recipe.batch_size}
            rows.append({"method": name, "repeat": repeat, "seconds": round(time.perf_counter() - start, 4), **about})
    table = pd.DataFrame([row for row in rows if row["repeat"]], columns=list(COLUMNS)).assign(
        dataset=item.dataset,
        images=len(splits.train.images),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )
    if is_main():
        with atomic_path(Path("data/cost", f"{item.dataset}.csv")) as path:
            table.to_csv(path, index=False)
    print(table.groupby("method", sort=False)["seconds"].median().to_string())


def one_epoch(recipe: Recipe, splits: Splits, device: torch.device, precision: str, seed: int) -> Callable[[], None]:
    """One epoch, to be called again and again; run_epoch ends by reading its sums, so it has waited for the device."""
    learner = new_learner(recipe, splits, device, seed)
    batches, adversary, silent = recipe_batches(recipe, splits, device), recipe_adversary(recipe), tqdm(file=io.StringIO())
    gamma = recipe.awp.gamma if recipe.awp else 0.0

    def epoch() -> None:
        run_epoch(learner, batches(learner.generator), adversary, precision, silent, gamma=gamma)

    return epoch
