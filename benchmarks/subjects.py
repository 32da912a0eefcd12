"""What the benchmarks run on: networks, images, recipes of params.yaml, and models trained for the purpose."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import Precision
from pipeline.data.digits import sklearn_digits
from pipeline.data.image_set import ImageSet, Splits
from pipeline.data.parquet_files import parquet
from pipeline.data.splits import make_splits
from pipeline.jobs.learner import build_network, new_learner, train
from pipeline.models.network import Network
from pipeline.params.choices import AttackChoice, NetworkChoice
from pipeline.params.dataset import Augment
from pipeline.params.items import Recipe
from pipeline.params.resolve import recipe
from pipeline.params.schema import Params
from pipeline.runtime.checkpoint import load_weights, save_state
from pipeline.runtime.files import content_key

LAYERS = ["layer3", "layer4", "layer5"]  # where the losses are
NETWORKS = {  # those of the PCL paper, table 1
    "resnet110": NetworkChoice.model_validate({"name": "resnet110", "blocks": 12, "branch": 512, "penultimate": 1024}),
    "conv6": NetworkChoice.model_validate({"name": "conv6", "penultimate": 64}),
}
SHAPES = {"resnet110": (3, 32), "conv6": (1, 28)}  # channels, height and width, of CIFAR-10 and MNIST
EPS = {"resnet110": 8 / 255, "conv6": 0.1}  # that neither breaks nothing nor everything
CONV6_OPTIMIZER = {"lr": 0.01, "clip": 10.0}  # as the mnist of params.yaml, for it has no batch norm
RESNET110_START = {"lr": 0.1, "clip": 1.0, "milestones": [0.75]}  # with which a few hundred steps teach it something
BASE = "ce"
LOSSES = {  # whose steps are timed, by the name of the method in params.yaml
    BASE: "softmax_fs",
    "hcp": "hcp",
    "pcl": "pcl_deep",
    "center": "center_deep",
    "contrastive": "contrastive",
    "triplet": "triplet",
}
STEP_LIMITS = {  # times a step of cross entropy, by network and loss; conv6 is so small that a GPU spends its step between kernels
    "resnet110": {"hcp": 1.05, "pcl": 1.05, "center": 1.05, "contrastive": 1.10, "triplet": 1.10},
}
METHODS = {"undefended": "softmax_fs", "pcl": "pcl_deep", "at": "madry"}  # what attacks are measured on, by its name in params.yaml
MODELS = Path(".ckpt/bench/models")


def blank_network(name: str, device: torch.device, count: int = 2) -> tuple[Network, Tensor]:
    """Random weights; and images of its size (count, C, H, W)."""
    channels, size = SHAPES[name]
    options = NETWORKS[name].model_dump()
    network = build_network(options, 1, 10, torch.zeros(channels), torch.ones(channels)).to(device)
    return network.to(memory_format=torch.channels_last), torch.rand(count, channels, size, size, device=device)


def load_images(network: str, folder: Path | None) -> Splits:
    """The data set whose train-*.parquet and test-*.parquet are in `folder`; without one the digits of scikit-learn, as large and
    with as many channels as the network's own data set."""
    if folder is not None:
        options = {"image_column": None, "label_column": None, "sha256sums": None}
        train, test, classes = parquet(train=str(folder), test=str(folder), **options)
    else:
        train, test, classes = sklearn_digits(test_fraction=0.2, seed=0)
        train, test = (ImageSet(_enlarged(part.images, *SHAPES[network]), part.labels) for part in (train, test))
    return make_splits(train, test, classes, fraction=0.1, seed=0, sample={"train": "all", "test": "all", "seed": 0})


def _enlarged(images: "np.ndarray[Any, np.dtype[np.uint8]]", channels: int, size: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """(N, 1, H, W) -> (N, channels, size, size), bilinear."""
    large = F.interpolate(torch.from_numpy(images).float(), size=(size, size), mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8).expand(-1, channels, -1, -1).contiguous().numpy()


def recipe_for(
    params: Params, method: str, network: str, *, batch_size: int, epochs: int, pad: int, flip: bool, eps: float, **changes: Any
) -> Recipe:
    """A method of params.yaml on a network of the papers. The optimizers are those of the digits, whose milestones are shares of
    the epochs, with what conv6 needs; `eps` is that of adversarial training; changes: values in place of the method's."""
    own = recipe(params, "digits", method, network=NETWORKS[network], **{"batch_size": batch_size, "epochs": epochs, **changes})
    if network == "conv6":
        own = with_optimizer(own, **CONV6_OPTIMIZER)
    adversary = own.adversary and own.adversary.model_copy(update={"eps": (eps, eps)})
    return own.model_copy(update={"augment": Augment(pad=pad, flip=flip), "adversary": adversary})


def with_optimizer(own: Recipe, **changes: Any) -> Recipe:
    return own.model_copy(update={"optimizer": own.optimizer.model_copy(update=changes)})


def first_of(splits: Splits, images: int) -> Splits:
    """With that many of the training images at most, and of the validation split no more than it has of them."""
    train, validation = (ImageSet(part.images[:images], part.labels[:images]) for part in (splits.train, splits.validation))
    return Splits(train, validation, splits.test, splits.classes, splits.mean, splits.std)


def trained_models(
    params: Params,
    network: str,
    splits: Splits,
    device: torch.device,
    *,
    images: int,
    epochs: int,
    eps: float,
    batch_size: int,
    precision: Precision,
    source: str,
) -> dict[str, Path]:
    """Model files by the names in METHODS, of which those that are not there yet are trained, by the project's own loop: first the
    undefended one, then from its weights the others. images: of the train split, the first; eps: of adversarial training;
    source: what the images are, for the file's name."""
    splits, files = first_of(splits, images), dict[str, Path]()
    for name, method in METHODS.items():
        own = recipe_for(params, method, network, batch_size=batch_size, epochs=epochs, pad=2, flip=False, eps=eps)
        own = _brief(own, name, network)
        used = {
            **{"dataset": source, "method": method, "seed": 0, "recipe": own.model_dump(mode="json")},
            **{"images": images, "precision": precision, "classes": len(splits.classes), "channels": len(splits.mean)},
            "start": files["undefended"].name if own.init == "softmax" else "random",
        }
        files[name] = MODELS / f"{source}-{network}-{name}-{content_key([], json.dumps(used))}.pt"
        if not files[name].exists():
            print(f"training {files[name]}", file=sys.stderr)
            _train(own, splits, device, precision, used, files[name])
    return files


def _brief(own: Recipe, name: str, network: str) -> Recipe:
    """For a few epochs: rates with which ResNet-110 gets away from its random start; adversarial training by two steps in place of
    ten, with the clip that keeps the first of them from undoing the start."""
    if name == "undefended" and network == "resnet110":
        return with_optimizer(own, **RESNET110_START)
    if own.adversary is None or name != "at":
        return own
    attack = AttackChoice.model_validate({**own.adversary.attack.model_dump(), "steps": 2, "rel_step_size": 0.75})
    own = own.model_copy(update={"adversary": own.adversary.model_copy(update={"attack": attack})})
    return with_optimizer(own, clip=1.0)


def _train(own: Recipe, splits: Splits, device: torch.device, precision: Precision, used: Mapping[str, Any], path: Path) -> None:
    learner = new_learner(own, splits, device, seed=0)
    if own.init == "softmax":
        load_weights(learner.network, MODELS / used["start"], device)
    unfinished = path.with_suffix(".last")
    train(learner, own, splits, precision=precision, checkpoint=unfinished, params=used, on_epoch=lambda row, rate: None)
    save_state(path, {**learner.kept(), "params": dict(used)})
    for file in path.parent.glob(f"{unfinished.name}*"):
        file.unlink()
