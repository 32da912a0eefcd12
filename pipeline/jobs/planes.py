"""Stage planes: a method once more with two penultimate features, to be drawn as they are (pcl figures 1 and 6)."""

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.attacks import ATTACKS
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import Trial, attackable, attacked, clean_features, predict, progress
from pipeline.jobs.learner import new_learner, test_images, train
from pipeline.params.schema import Dataset, Method, Params, pick
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.training.state import Learner, Row

PENULTIMATE = "layer5"
CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]
Look = dict[str, np.ndarray]  # features (N, 2), prediction (N,) and, where there are any, centres (K, 2)


def train_plane(params: Params, dataset: str, method: str) -> None:
    """Trains METHOD from random weights with a penultimate layer of two units, first seed. Writes data/planes/DATASET/METHOD.npz:
    the features of the clean test images after each of planes.epochs and at the end, and those of their PGD twins at the end. A
    killed run goes on from its last epoch."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    recipe: Method = pick(params.methods, method, "method")
    device, seed, epochs = set_up_device(params.compute.device, params.compute.threads), params.run.seeds[0], data.training.epochs
    last, batch_size = epochs[recipe.epochs], data.evaluation.batch_size
    splits = load_splits(f"data/{dataset}.npz")
    images, labels = test_images(data, splits, device)
    learner = new_learner(data, recipe, splits, device, seed, penultimate=2)
    used = {
        "network": data.networks[recipe.network].model_dump(),
        "training": data.training.model_dump(),
        "method": recipe.model_dump(),
        "compute": params.compute.model_dump(),
        "epochs": params.planes.epochs,
        "images": data.evaluation.images,
        "seed": seed,
    }
    unfinished = Path(os.environ.get("DVC_ROOT", ".")) / ".ckpt" / f"plane-{dataset}-{method}"
    folder = unfinished / content_key(used, [f"data/{dataset}.npz"], CODE)
    wanted = sorted({epoch for epoch in params.planes.epochs if epoch < last} | {last})

    def keep(row: Row, _: float | None) -> None:
        path = folder / f"{int(row['epoch'])}.npz"
        if is_main() and row["epoch"] in wanted and not path.exists():
            with atomic_path(path) as part:
                np.savez(part, **_look(learner, images, batch_size))  # type: ignore[arg-type]

    precision = params.compute.precision
    train(learner, data, recipe, splits, precision=precision, checkpoint=folder / "last.pt", params=used, on_epoch=keep)
    pgd = partial(ATTACKS["pgd"], **params.attacks["pgd"].options)
    trial = Trial("pgd", data.headline_eps, pgd, batch_size)
    victim = attackable(learner.trained()[0], images, params.compute.attack_precision)
    with progress(len(images)) as bar:
        twins, _ = attacked(victim, images, labels, trial, seed=seed, bar=bar)
    if not is_main():
        return
    y, looks = labels.cpu().numpy(), [dict(np.load(folder / f"{epoch}.npz")) for epoch in wanted]
    arrays = _stack(looks, _look(learner, twins, batch_size), y)
    with atomic_path(Path("data/planes", dataset, f"{method}.npz")) as part:
        np.savez(part, epochs=np.array(wanted), label=y, eps=np.array(trial.eps), **arrays)  # type: ignore[arg-type]
    shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{dataset} {method}: two features after {', '.join(map(str, wanted))} epochs")


def _look(learner: Learner, images: Tensor, batch_size: int) -> Look:
    """What the network makes of the images now."""
    network, criterion = learner.trained()
    features = clean_features(network, images, batch_size=batch_size)[PENULTIMATE]
    prediction = predict(network, images, batch_size=batch_size).cpu().numpy()
    centres = dict(criterion.named_parameters()).get(f"losses.{PENULTIMATE}.centres")
    return {
        "features": features,
        "prediction": prediction,
        **({} if centres is None else {"centres": centres.detach().cpu().numpy()}),
    }


def _stack(looks: list[Look], twins: Look, y: np.ndarray) -> Look:
    """clean (E, N, 2), accuracy (E,) in %, centres (E, K, 2) of the epochs; adversarial (N, 2) and correct (N,) of the twins."""
    arrays = {name: np.stack([look[name] for look in looks]) for name in looks[0]}
    accuracy = 100 * (arrays.pop("prediction") == y).mean(axis=1)
    return {
        "clean": arrays.pop("features"),
        **arrays,
        "accuracy": accuracy,
        "adversarial": twins["features"],
        "correct": twins["prediction"] == y,
    }
