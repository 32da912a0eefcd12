"""Stage attack: every attack of the run on one model, image by image."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.attacks import ATTACKS
from pipeline.attacks.mim import mim
from pipeline.checkpoint import load_weights
from pipeline.config import Dataset, Evaluation, Params, pick
from pipeline.data.batches import to_float
from pipeline.data.image_set import load_splits
from pipeline.device import set_up_device
from pipeline.evaluation.robustness import Trial, clean_features, measure, noise_trials, summary_metrics, trials
from pipeline.files import atomic_path, content_key
from pipeline.models import NETWORKS
from pipeline.tracking import track

Arrays = dict[str, np.ndarray]
CODE = ["attacks", "data", "evaluation", "jobs", "models"]  # rooms that the outcomes follow from


def attack_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes into data/attacks/DATASET/METHOD/SEED: outcomes.parquet (a row per attack, eps and test image), images.npz (the first
    adversarial images, as many as params.yaml keeps) and features.npz (features of the clean test images, by layer)."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    pick(params.methods, method, "method")
    evaluation, device = data.evaluation, set_up_device(params.compute.device, params.compute.threads)
    images_file, model_file = f"data/{dataset}.npz", f"models/{dataset}/{method}/{seed}.pt"
    splits = load_splits(images_file)
    classes, mean, std = len(splits.classes), torch.from_numpy(splits.mean), torch.from_numpy(splits.std)
    network = NETWORKS[data.network.name](classes, mean, std, **data.network.options).to(device)
    trained_with = load_weights(network, model_file, device)
    network = network.to(memory_format=torch.channels_last)
    used = {
        "evaluation": evaluation.model_dump(),
        "attacks": {name: params.attacks[name].model_dump() for name in params.run.attacks},
        "noise": params.noise.model_dump(),
        "compute": {"device": device.type, "threads": params.compute.threads},
        "dataset": dataset,
        "method": method,
        "seed": seed,
    }
    with track(
        enabled=params.tracking.enabled,
        uri=params.tracking.uri,
        experiment="robustness",
        name=f"{dataset} {method} {seed}",
        key=content_key(used, [images_file, model_file], CODE),
        params={**used, "trained_with": trained_with},
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": os.environ.get("DVC_STAGE", "attack")},
    ) as run:
        count = len(splits.test.images) if evaluation.images == "all" else evaluation.images
        images = to_float(torch.from_numpy(splits.test.images[:count]).to(device))
        labels = torch.from_numpy(splits.test.labels[:count]).to(device)
        outcomes, kept = measure(network, images, labels, _plan(params, evaluation), seed=seed, keep=_kept(evaluation, count))
        features = clean_features(network, images, batch_size=evaluation.batch_size)
        _write(Path("data/attacks", dataset, method, str(seed)), outcomes, features, kept, labels.cpu().numpy())
        summary = summary_metrics(outcomes)
        run.log(summary)
    print(f"{dataset} {method} {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items()))


def _plan(params: Params, evaluation: Evaluation) -> list[Trial]:
    chosen = {name: params.attacks[name] for name in params.run.attacks}
    attacks = {name: partial(ATTACKS[choice.name], **choice.options) for name, choice in chosen.items()}
    return [*trials(attacks, evaluation.eps, evaluation.batch_size), *noise_trials(mim, **params.noise.model_dump())]


def _kept(evaluation: Evaluation, count: int) -> int:
    if isinstance(evaluation.keep_images, int):
        return evaluation.keep_images
    return count if evaluation.keep_images == "all" else 0


def _write(folder: Path, outcomes: pd.DataFrame, features: Arrays, kept: Arrays, labels: np.ndarray) -> None:
    arrays = {"features.npz": {**features, "label": labels, "layers": np.array(list(features))}}
    if kept:
        arrays["images.npz"] = {**kept, "label": labels[: len(next(iter(kept.values())))]}
    for name, content in arrays.items():
        with atomic_path(folder / name) as path:
            np.savez(path, **dict[str, Any](content))
    with atomic_path(folder / "outcomes.parquet") as path:
        outcomes.to_parquet(path, index=False)
