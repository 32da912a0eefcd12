"""Stages pretrain, finetune and scratch: one model by one method."""

import os
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Generator

from pipeline.attacks import ATTACKS
from pipeline.checkpoint import load_weights, save_state
from pipeline.config import Dataset, Method, Params, TrainingData, pick
from pipeline.data.batches import training_batches
from pipeline.data.image_set import ImageSet, Splits, load_splits
from pipeline.device import set_up_device
from pipeline.evaluation.accuracy import accuracy
from pipeline.files import atomic_path, content_key
from pipeline.losses import LOSSES
from pipeline.models import NETWORKS
from pipeline.tracking import TrackedRun, track
from pipeline.training.adversary import Adversary, clean_only, mixed_with_attacked
from pipeline.training.criterion import build_criterion
from pipeline.training.loop import fit
from pipeline.training.optimizer import build_optimizer
from pipeline.training.state import Learner, Row

CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]  # rooms that a checkpoint follows from


def train_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes models/DATASET/METHOD/SEED.pt (weights, prototypes, params) and metrics/training/DATASET/METHOD/SEED.csv (a row per
    epoch). A killed run goes on from its last epoch. Raises ValueError for what params or files make impossible."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    recipe: Method = pick(params.methods, method, "method")
    epochs, batch_size = data.training.epochs[recipe.epochs], data.training.batch_size
    device = set_up_device(params.compute.device, params.compute.threads)
    used = {
        "dataset": dataset,
        "method": {"name": method, **recipe.model_dump(), "epochs": epochs},
        "seed": seed,
        "network": data.network.model_dump(),
        "training": {"batch_size": batch_size, "augment": data.training.augment.model_dump()},
        "compute": {**params.compute.model_dump(), "device": device.type},
    }
    if recipe.adversary is not None:
        used["adversary_eps"] = data.training.adversary_eps
    inputs = [f"data/{dataset}.npz"]
    splits = load_splits(inputs[0])
    learner = _new_learner(data, recipe, splits, device, seed)
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
        train, validation = _on_device(splits.train, device), _on_device(splits.validation, device)
        rows = fit(
            learner,
            batches=partial(training_batches, *train, batch_size=batch_size, **data.training.augment.model_dump()),
            images=len(splits.train.images),
            epochs=epochs,
            adversary=_adversary(recipe, data.training),
            precision=params.compute.precision,
            validate=partial(accuracy, learner.network, *validation, batch_size=batch_size),
            checkpoint=unfinished / key / "last.pt",
            params=used,
            on_epoch=partial(_log_epoch, run),
        )
        curve = Path("metrics/training", dataset, method, f"{seed}.csv")
        with atomic_path(curve) as partial_curve:
            pd.DataFrame(rows).round(6).to_csv(partial_curve, index=False)
        run.artifact(curve)
        model = {"network": learner.network.state_dict(), "prototypes": learner.criterion.state_dict(), "params": used}
        save_state(f"models/{dataset}/{method}/{seed}.pt", model)
    shutil.rmtree(unfinished, ignore_errors=True)  # with what other params had left unfinished
    print(f"{dataset} {method} {seed}: {len(rows)} epochs, validation accuracy {rows[-1]['validation_accuracy']:.2f} %")


def _new_learner(data: Dataset, recipe: Method, splits: Splits, device: torch.device, seed: int) -> Learner:
    """Random weights and prototypes, from the seed alone."""
    torch.manual_seed(seed)
    classes, mean, std = len(splits.classes), torch.from_numpy(splits.mean), torch.from_numpy(splits.std)
    network = NETWORKS[data.network.name](classes, mean, std, **data.network.options).to(device)
    network = network.to(memory_format=torch.channels_last)  # 1.2 to 1.7 times as fast on a CPU
    loss = None if recipe.loss is None else partial(LOSSES[recipe.loss.name], **recipe.loss.options)
    name = "none" if recipe.loss is None else recipe.loss.name
    criterion = build_criterion(loss, name, recipe.layers, network.dims, classes).to(device)
    settings = {name: group.model_dump() for name, group in recipe.prototypes.items()}
    optimizer = build_optimizer(network, criterion.prototypes(), recipe.optimizer.model_dump(), settings)
    return Learner(network, criterion, optimizer, Generator(device).manual_seed(seed))


def _adversary(recipe: Method, data: TrainingData) -> Adversary:
    if recipe.adversary is None:
        return clean_only
    attack, (low, high) = recipe.adversary.attack, data.adversary_eps
    return partial(
        mixed_with_attacked,
        attack=partial(ATTACKS[attack.name], **attack.options),
        eps_range=(low, high),
        clean_share=recipe.adversary.clean_share,
    )


def _on_device(part: ImageSet, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(part.images).to(device), torch.from_numpy(part.labels).to(device)


def _log_epoch(run: TrackedRun, row: Row, images_per_second: float | None) -> None:
    run.log(row if images_per_second is None else {**row, "images_per_second": images_per_second}, step=int(row["epoch"]))
