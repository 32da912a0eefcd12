"""Stages pretrain, finetune and scratch: one model by one method."""

import os
import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.checkpoint import load_weights, save_state
from pipeline.config import Dataset, Method, Params, pick
from pipeline.data.image_set import load_splits
from pipeline.device import set_up_device
from pipeline.files import atomic_path, content_key
from pipeline.jobs.learner import new_learner, train
from pipeline.tracking import TrackedRun, track
from pipeline.training.state import Row

CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]  # rooms that a checkpoint follows from


def train_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes models/DATASET/METHOD/SEED.pt (weights, prototypes, params) and metrics/training/DATASET/METHOD/SEED.csv (a row per
    epoch). A killed run goes on from its last epoch. Raises ValueError for what params or files make impossible."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    recipe: Method = pick(params.methods, method, "method")
    device = set_up_device(params.compute.device, params.compute.threads)
    inputs = [f"data/{dataset}.npz"]
    splits = load_splits(inputs[0])
    used = {
        "dataset": dataset,
        "classes": len(splits.classes),
        "channels": len(splits.mean),
        "method": {"name": method, **recipe.model_dump(), "epochs": data.training.epochs[recipe.epochs]},
        "seed": seed,
        "network": data.networks[recipe.network].model_dump(),
        "training": {"batch_size": data.training.batch_size, "augment": data.training.augment.model_dump()},
        "compute": {**params.compute.model_dump(), "device": device.type},
    }
    if recipe.adversary is not None:
        used["adversary_eps"] = data.training.adversary_eps[recipe.adversary.eps]
    learner = new_learner(data, recipe, splits, device, seed)
    if recipe.init == "softmax":
        inputs.append(f"models/{dataset}/softmax/{seed}.pt")
        load_weights(learner.network, inputs[1], device)
    key = content_key(used, inputs, CODE)
    unfinished = Path(os.environ.get("DVC_ROOT", ".")) / ".ckpt" / f"{dataset}-{method}-{seed}"
    with track(
        enabled=params.tracking.enabled,
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
        curve = Path("metrics/training", dataset, method, f"{seed}.csv")
        with atomic_path(curve) as partial_curve:
            pd.DataFrame(rows).round(6).to_csv(partial_curve, index=False)
        run.artifact(curve)
        model = {"network": learner.network.state_dict(), "criterion": learner.criterion.state_dict(), "params": used}
        save_state(f"models/{dataset}/{method}/{seed}.pt", model)
    shutil.rmtree(unfinished, ignore_errors=True)  # with what other params had left unfinished
    print(f"{dataset} {method} {seed}: {len(rows)} epochs, validation accuracy {rows[-1]['validation_accuracy']:.2f} %")


def _log_epoch(run: TrackedRun, row: Row, images_per_second: float | None) -> None:
    run.log(row if images_per_second is None else {**row, "images_per_second": images_per_second}, step=int(row["epoch"]))
