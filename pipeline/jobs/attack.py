"""Stage attack: every attack of the run on one model, image by image."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.attacks import ATTACKS
from pipeline.attacks.mim import mim
from pipeline.checkpoint import load_weights
from pipeline.config import Dataset, Params, pick
from pipeline.data.batches import to_float
from pipeline.data.image_set import load_splits
from pipeline.device import set_up_device
from pipeline.evaluation.robustness import clean_features, measure, noise_trials, summarise, trials
from pipeline.files import atomic_path, content_key
from pipeline.models import NETWORKS
from pipeline.tracking import track

CODE = ["attacks", "data", "evaluation", "jobs", "models"]  # rooms that the outcomes follow from


def attack_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes into data/attacks/DATASET/METHOD/SEED: outcomes.parquet (a row per attack, eps and test image), images.npz (the first
    adversarial images, as many as params.yaml keeps) and features.npz (features of the clean test images, by layer)."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    pick(params.methods, method, "method")
    evaluation, device = data.evaluation, set_up_device(params.compute.device, params.compute.threads)
    images_file, model_file = f"data/{dataset}.npz", f"models/{dataset}/{method}/{seed}.pt"
    splits = load_splits(images_file)
    network = NETWORKS[data.network.name](
        len(splits.classes), torch.from_numpy(splits.mean), torch.from_numpy(splits.std), **data.network.options
    ).to(device)
    network = network.to(memory_format=torch.channels_last)
    load_weights(network, model_file, device)
    count = len(splits.test.images) if evaluation.images == "all" else evaluation.images
    keep = {"all": count, "none": 0}[evaluation.keep_images] if isinstance(evaluation.keep_images, str) else evaluation.keep_images
    images = to_float(torch.from_numpy(splits.test.images[:count]).to(device))
    labels = torch.from_numpy(splits.test.labels[:count]).to(device)
    attacks = {name: partial(ATTACKS[params.attacks[name].name], **params.attacks[name].options) for name in params.run.attacks}
    plan = [*trials(attacks, evaluation.eps, evaluation.batch_size), *noise_trials(mim, **params.noise.model_dump())]
    used = {
        "evaluation": evaluation.model_dump(),
        "attacks": {name: params.attacks[name].model_dump() for name in params.run.attacks},
        "noise": params.noise.model_dump(),
        "compute": params.compute.model_dump(),
        "seed": seed,
    }
    with track(
        enabled=params.tracking.enabled,
        uri=params.tracking.uri,
        experiment="robustness",
        name=f"{dataset} {method} {seed}",
        key=content_key(used, [images_file, model_file], CODE),
        params=used,
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": os.environ.get("DVC_STAGE", "attack")},
    ) as run:
        outcomes, kept = measure(network, images, labels, plan, seed=seed, keep=keep)
        features = clean_features(network, images, batch_size=evaluation.batch_size)
        folder, truth = Path("data/attacks", dataset, method, str(seed)), labels.cpu().numpy()
        with atomic_path(folder / "outcomes.parquet") as path:
            outcomes.to_parquet(path, index=False)
        _save_arrays(folder / "features.npz", {**features, "label": truth, "layers": np.array(list(features))})
        if kept:
            _save_arrays(folder / "images.npz", {**kept, "label": truth[:keep]})
        summary = summarise(outcomes)
        run.log(summary)
    print(f"{dataset} {method} {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items()))


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_path(path) as partial_path:
        np.savez(partial_path, **arrays)
