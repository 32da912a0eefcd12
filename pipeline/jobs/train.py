"""Stages pretrain, finetune and scratch: one model by one method."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.image_set import load_splits
from pipeline.jobs.learner import new_learner, train
from pipeline.params.schema import Dataset, Method, Params, pick
from pipeline.runtime.checkpoint import load_weights, save_state
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.tracking import TrackedRun, track
from pipeline.training.loop import best_row
from pipeline.training.state import Row

CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]  # rooms that a checkpoint follows from


def train_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes models/DATASET/METHOD/SEED.pt (weights, prototypes, params) and metrics/training/DATASET/METHOD/SEED.csv (a row per
    epoch). A killed run goes on from its last epoch, by one process or any number of ranks. Raises ValueError for what params or
    files make impossible."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    recipe: Method = pick(params.methods, method, "method")
    device = set_up_device(params.compute.device, params.compute.threads)
    inputs = [f"data/{dataset}.npz"]
    splits = load_splits(inputs[0])
    used = {"dataset": dataset, "classes": len(splits.classes), "channels": len(splits.mean), "seed": seed}
    used |= _recipe(params, data, method) | {
        "compute": {**params.compute.model_dump(exclude={"attack_precision"}), "device": device.type}
    }
    learner = new_learner(data, recipe, splits, device, seed)
    if recipe.init == "softmax":
        inputs.append(f"models/{dataset}/softmax/{seed}.pt")
        load_weights(learner.network, inputs[1], device)
    key = content_key(used, inputs, CODE)
    check_same("what training follows from", key)
    unfinished = Path(os.environ.get("DVC_ROOT", ".")) / ".ckpt" / f"{dataset}-{method}-{seed}"
    with track(
        enabled=params.tracking.enabled and is_main(),
        uri=params.tracking.uri,
        experiment="training",
        name=f"{dataset} {method} {seed}",
        key=key,
        params=used,
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": os.environ.get("DVC_STAGE", "train")},
    ) as run:
        rows = train(
            learner,
            data,
            recipe,
            splits,
            precision=params.compute.precision,
            checkpoint=unfinished / key / "last.pt",
            params=used,
            on_epoch=partial(_log_epoch, run),
        )
        if is_main():
            curve = Path("metrics/training", dataset, method, f"{seed}.csv")
            with atomic_path(curve) as partial_curve:
                pd.DataFrame(rows).round(6).to_csv(partial_curve, index=False)
            run.artifact(curve)
            save_state(f"models/{dataset}/{method}/{seed}.pt", {**learner.kept(), "params": used})
    if is_main():
        shutil.rmtree(unfinished, ignore_errors=True)  # with what other params had left unfinished
    row = rows[-1] if recipe.keep == "last" else best_row(rows)
    seen = f"validation accuracy {row['validation_accuracy']:.2f} %"
    print(f"{dataset} {method} {seed}: {len(rows)} epochs, that of epoch {int(row['epoch'])} kept: {seen}")


def _recipe(params: Params, data: Dataset, method: str) -> dict[str, Any]:
    """Of what params.yaml says, all that the model hangs on besides data set and seed."""
    recipe = params.methods[method]
    used: dict[str, Any] = {
        "method": {"name": method, **recipe.model_dump(), "epochs": data.training.epochs[recipe.epochs]},
        "network": data.networks[recipe.network].model_dump(),
        "training": {"batch_size": data.training.batch_size, "augment": data.training.augment.model_dump()},
    }
    if recipe.adversary is not None:
        used["adversary_eps"] = data.training.adversary_eps[recipe.adversary.eps]
    return used


def _log_epoch(run: TrackedRun, row: Row, images_per_second: float | None) -> None:
    run.log(row if images_per_second is None else {**row, "images_per_second": images_per_second}, step=int(row["epoch"]))
