"""Stages pretrain, finetune and sources: one model by one method."""

from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.data.image_set import load_splits
from pipeline.jobs.learner import new_learner, train
from pipeline.params.items import TrainItem, item_file
from pipeline.runtime.checkpoint import load_weights, save_state
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.runtime.unfinished import unfinished_work
from pipeline.tracking.run import TrackedRun, track
from pipeline.tracking.store import Settings
from pipeline.training.loop import best_row
from pipeline.training.state import Row


def train_model(item: TrainItem, seed: int, tracking: Settings) -> None:
    """Writes models/DATASET/METHOD/SEED.pt (weights, prototypes, params), .csv (a row an epoch) and .json (what MLflow is told). A
    killed run goes on from its last epoch, by one process or any number of ranks. Raises ValueError for what params or files make
    impossible."""
    dataset, method, recipe = item.dataset, item.method, item.recipe
    if recipe.given:
        from pipeline.jobs.adopt import adopt_model  # code that counts for models from elsewhere alone

        return adopt_model(item, recipe.given, seed, tracking)
    device = set_up_device(item.compute.device, item.compute.threads)
    inputs = [item_file(dataset, "train", method), Path("data", f"{dataset}.npz")]
    splits = load_splits(inputs[1])
    learner = new_learner(recipe, splits, device, seed)
    if recipe.init == "softmax":
        inputs.append(Path("models", dataset, "softmax", f"{seed}.pt"))
        load_weights(learner.network, inputs[2], device, dataset=dataset, method="softmax", seed=seed)
    key = content_key(inputs, seed, device.type)
    check_same("what training follows from", key)
    about = {"dataset": dataset, "method": method, "seed": seed, "recipe": recipe.model_dump(mode="json")}
    about |= {"compute": {**item.compute.model_dump(), "device": device.type}}
    used = {**about, "key": key, "classes": len(splits.classes), "channels": len(splits.mean)}
    folder = Path("models", dataset, method)
    tracked = track(
        tracking,
        model=f"{dataset}/{method}/{seed}",
        key=key,
        params=about,
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": "train"},
        record=folder / f"{seed}.json",
    )
    with unfinished_work("train", dataset, method, seed, key=key) as unfinished, tracked as run:
        rows = train(
            learner,
            recipe,
            splits,
            precision=item.compute.precision,
            checkpoint=unfinished / "last.pt",
            params=used,
            on_epoch=partial(_log_epoch, run),
        )
        row = rows[-1] if recipe.keep == "last" else best_row(rows)
        validated = {"images": len(splits.validation.images), "robust": row.get("validation_robust")}
        if is_main():
            with atomic_path(folder / f"{seed}.csv") as curve:
                pd.DataFrame(rows).round(6).to_csv(curve, index=False)
            save_state(folder / f"{seed}.pt", {**learner.kept(), "params": {**used, "validation": validated}})
    seen = f"validation accuracy {row['validation_accuracy']:.2f} %"
    seen += f", {row['validation_robust']:.2f} % under its own attack" if "validation_robust" in row else ""
    print(f"{dataset} {method} {seed}: {len(rows)} epochs, that of epoch {int(row['epoch'])} kept: {seen}")


def _log_epoch(run: TrackedRun, row: Row, images_per_second: float | None) -> None:
    run.log(row, step=int(row["epoch"]))
    if images_per_second is not None:
        run.log({"images_per_second": images_per_second}, step=int(row["epoch"]), record=False)
