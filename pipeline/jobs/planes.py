"""Stage planes: methods once more with two penultimate features, to be drawn as they are (pcl figures 1 and 6)."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.attacks import ATTACKS
from pipeline.data.image_set import Splits, load_splits
from pipeline.evaluation.robustness import Trial, attackable, attacked, clean_features, predict, progress
from pipeline.jobs.learner import new_learner, train
from pipeline.jobs.trained import test_images
from pipeline.params.items import PlanesItem, item_file
from pipeline.runtime.checkpoint import load_state, save_state
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.runtime.unfinished import unfinished_work
from pipeline.training.state import Learner, Row

PENULTIMATE = "layer5"
Look = dict[str, np.ndarray]  # features (N, 2), prediction (N,) and, where there are any, centres (K, 2)


def train_planes(item: PlanesItem) -> None:
    """Trains each method of the item from random weights with a penultimate layer of two units. Writes
    data/planes/DATASET/METHOD.npz: the features of the clean test images after each of the epochs and at the end, and those of
    their adversarial examples (PGD) at the end. A killed run goes on from its last epoch."""
    images_file = Path("data", f"{item.dataset}.npz")
    device = set_up_device(item.compute.device, item.compute.threads)
    splits, key = load_splits(images_file), content_key([item_file(item.dataset, "planes"), images_file], device.type)
    Path("data/planes", item.dataset).mkdir(parents=True, exist_ok=True)  # an output, also where no method is drawn
    with unfinished_work("planes", item.dataset, key=key) as unfinished:
        for method in item.recipes:
            _train_plane(item, method, splits, device, unfinished / method)


def _train_plane(item: PlanesItem, method: str, splits: Splits, device: torch.device, folder: Path) -> None:
    recipe = item.recipes[method]
    images, labels = test_images(splits, item.images, device)
    learner = new_learner(recipe, splits, device, item.seed)
    wanted = sorted({epoch for epoch in item.epochs if epoch < recipe.epochs} | {recipe.epochs})

    def keep(row: Row, rate: float | None) -> None:
        path = folder / f"{int(row['epoch'])}.pt"
        if is_main() and row["epoch"] in wanted and rate is not None:  # of past epochs the features are gone
            save_state(path, {name: torch.from_numpy(values) for name, values in _look(learner, images, item.batch_size).items()})

    about = {"recipe": recipe.model_dump(mode="json"), "seed": item.seed}
    train(learner, recipe, splits, precision=item.compute.precision, checkpoint=folder / "last.pt", params=about, on_epoch=keep)
    trial = Trial("pgd", item.eps, partial(ATTACKS["pgd"], **item.pgd.options), item.batch_size)
    victim = attackable(learner.trained()[0], images, item.attack_precision)
    with progress(len(images)) as bar:
        twins, _ = attacked(victim, images, labels, trial, seed=item.seed, bar=bar)
    if not is_main():
        return
    y, kept = labels.cpu().numpy(), [folder / f"{epoch}.pt" for epoch in wanted]
    try:
        looks = [{name: values.numpy() for name, values in load_state(path).items()} for path in kept]
    except ValueError as error:  # the features of past epochs cannot be computed again
        raise ValueError(f"{str(error).partition(';')[0]}; delete the folder {folder} to restart training") from None
    arrays = _stack(looks, _look(learner, twins, item.batch_size), y)
    with atomic_path(Path("data/planes", item.dataset, f"{method}.npz")) as part:
        about = {"model": np.array(f"{item.dataset}/{method}"), "epochs": np.array(wanted), "eps": np.array(trial.eps)}
        np.savez(part, label=y, **about, **arrays)  # type: ignore[arg-type]
    print(f"{item.dataset} {method}: two features after {', '.join(map(str, wanted))} epochs")


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
    """clean (E, N, 2), accuracy (E,) in %, centres (E, K, 2) of the epochs; adversarial (N, 2) and correct (N,) of the adversarial
    examples."""
    arrays = {name: np.stack([look[name] for look in looks]) for name in looks[0]}
    accuracy = 100 * (arrays.pop("prediction") == y).mean(axis=1)
    return {
        "clean": arrays.pop("features"),
        **arrays,
        "accuracy": accuracy,
        "adversarial": twins["features"],
        "correct": twins["prediction"] == y,
    }
