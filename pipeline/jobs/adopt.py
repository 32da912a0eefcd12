"""Part of stages finetune and sources: a model from elsewhere takes its place beside those that are trained here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F

from pipeline.data.batches import to_float
from pipeline.data.image_set import load_splits
from pipeline.evaluation.beforehand import look
from pipeline.evaluation.robustness import predict_logits
from pipeline.jobs.given import load_given
from pipeline.jobs.learner import on_device
from pipeline.jobs.trained import test_images
from pipeline.models.given.build import build
from pipeline.models.given.network import Given
from pipeline.models.given.weights import is_weights
from pipeline.models.network import Network
from pipeline.params.items import TrainItem, item_file
from pipeline.params.schema import GivenModel
from pipeline.runtime.checkpoint import save_state
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path, content_key, file_digest
from pipeline.tracking.run import track
from pipeline.tracking.store import Settings


def adopt_model(item: TrainItem, given: GivenModel, seed: int, tracking: Settings) -> None:
    """Writes models/DATASET/METHOD/SEED.pt, .csv (one row, of epoch 0) and .json, as `train_model` does. What is seen before a
    verdict on the command line is looked at here, and printed. Raises ValueError where the model does not fit the data set, or
    cannot be judged."""
    dataset, method, folder = item.dataset, item.method, Path("models", item.dataset, item.method)
    device = set_up_device(item.compute.device, item.compute.threads)
    images_file = Path("data", f"{dataset}.npz")
    splits = load_splits(images_file)
    images, labels = test_images(splits, "all", device)
    loaded = load_given(
        given.model,
        given.options,
        given.weights_file(dataset, seed),
        images[:2],
        classes=len(splits.classes),
        mean=given.mean,
        std=given.std,
        features=given.features,
    )
    network = loaded.network if isinstance(loaded.network, Given) else Given(loaded.network, images[:2])
    if network.classes != len(splits.classes):
        raise ValueError(f"methods.{method}.given: the model has {network.classes} classes, {dataset} has {len(splits.classes)}")
    found = look(network, images, labels, batch_size=item.recipe.batch_size, normalised=loaded.normalised, training=loaded.training)
    for finding in found:
        if finding.level == "stop":
            raise ValueError(f"methods.{method}.given: {finding.text}: {finding.advice}")
    key = content_key([item_file(dataset, "train", method), images_file], seed, device.type)
    resolved = {name: loaded.about[name] for name in ("mean", "std", "features")}
    recipe = item.recipe.model_dump(mode="json")
    recipe["given"] |= resolved
    about = {"dataset": dataset, "method": method, "seed": seed, "recipe": recipe, "files": item.given_files}
    shape = list(images.shape[1:])
    used = {**about, "key": key, "classes": network.classes, "channels": shape[0], "shape": shape}
    x, y = on_device(splits.validation, device)
    logits = predict_logits(network, to_float(x), batch_size=item.recipe.batch_size)
    right = (logits.argmax(1) == y).double().mean().item()
    row = {"epoch": 0.0, "loss": F.cross_entropy(logits, y).item(), "validation_accuracy": 100 * right}
    with track(
        tracking,
        model=f"{dataset}/{method}/{seed}",
        key=key,
        params=about,
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": "train"},
        record=folder / f"{seed}.json",
    ) as run:
        run.log(row, step=0)
        if is_main():
            with atomic_path(folder / f"{seed}.csv") as curve:
                pd.DataFrame([row]).round(6).to_csv(curve, index=False)
            save_state(folder / f"{seed}.pt", {"network": network.state_dict(), "criterion": {}, "params": used})
    for finding in found:
        print(f"{finding.name}: {finding.text}")
    print(f"{dataset} {method} {seed}: imported, validation accuracy {row['validation_accuracy']:.2f} %")


def given_network(params: Mapping[str, Any], device: torch.device) -> Network:
    """A model from elsewhere, by the code that it was taken in with. Raises ValueError where that has changed."""
    given, shape = params["recipe"]["given"], params["shape"]
    for file, digest in params["files"].items():
        if not is_weights(Path(file)) and not (Path(file).is_file() and file_digest(file) == digest):
            raise ValueError(f"{file} has changed since")
    model = build(given["model"], given["options"], classes=params["classes"], channels=shape[0]).float()
    mean, std = (given[name] and torch.tensor(given[name]) for name in ("mean", "std"))
    return Given(model, torch.zeros(2, *shape, device=device), mean=mean, std=std, layers=given["features"])
