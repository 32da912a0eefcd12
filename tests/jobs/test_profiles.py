"""Every model of every profile can be built, attacked and trained; those of the papers' profiles stay finite on real images."""

import io
import os
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor
from tqdm import tqdm

from pipeline.attacks.pgd import pgd
from pipeline.data.batches import to_float, training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.data.public_sets import public_set
from pipeline.data.splits import make_splits
from pipeline.jobs.learner import new_learner, on_device, recipe_adversary
from pipeline.params.items import PlanesItem, Recipe, TrainItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, recipe
from pipeline.params.schema import Params, load_params
from pipeline.training.loop import run_epoch
from pipeline.training.state import Learner

PROFILES = {"digits": ROOT, **{path.parent.name: path.parent for path in sorted(ROOT.glob("profiles/*/params.yaml"))}}
SHAPES = {  # channels, height and width, classes
    "digits": (1, 8, 10),
    "mnist": (1, 28, 10),
    "fashion_mnist": (1, 28, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "svhn": (3, 32, 10),
}
BATCH = 4
CPU = torch.device("cpu")


@cache
def params_of(profile: str) -> Params:
    return load_params(PROFILES[profile] / "params.yaml", LOOKUPS)


class Model(NamedTuple):
    shape: tuple[int, int, int]
    recipe: Recipe


def by_name(params: Params) -> list[str]:
    """Methods that a profile has and does not run."""
    others = {*params.run.methods, *params.transfer.sources, "softmax", "finetune"}
    return [name for name in params.methods if name not in others]


def models() -> dict[str, Model]:
    """Every recipe of the runs, of methods that are there by name, the sources of transfer and the planes, by the first name it
    has; once, where they are equal."""
    found: dict[tuple[object, str], tuple[str, Model]] = {}
    for profile in PROFILES:
        params = params_of(profile)
        run = params.run.model_copy(update={"methods": [*params.run.methods, *by_name(params)]})
        for item in all_items(params.model_copy(update={"run": run})).values():
            if isinstance(item, TrainItem):
                own = {item.method: item.recipe}
            elif isinstance(item, PlanesItem):
                own = {f"{name}, two features": whole for name, whole in item.recipes.items()}
            else:
                continue
            for name, whole in own.items():
                model = Model(SHAPES[item.dataset], one_step(whole))
                found.setdefault((model.shape, model.recipe.model_dump_json()), (f"{profile}/{item.dataset}/{name}", model))
    return dict(found.values())


def one_step(recipe: Recipe) -> Recipe:
    """What concerns the first training step; an attack in it makes one step too."""
    schedule: dict[str, object] = {"milestones": [], "gamma": 1.0}
    changes: dict[str, object] = {
        **{"epochs": 1, "batch_size": BATCH, "init": "random", "keep": "last"},
        "augment": recipe.augment.model_copy(update={"pad": 0, "flip": False}),
        "optimizer": recipe.optimizer.model_copy(update=schedule),
        "prototypes": {name: own.model_copy(update=schedule) for name, own in recipe.prototypes.items()},
    }
    if recipe.adversary and "steps" in recipe.adversary.attack.options:
        attack = recipe.adversary.attack.model_copy(update={"steps": 1})
        changes["adversary"] = recipe.adversary.model_copy(update={"attack": attack})
    return recipe.model_copy(update=changes)


MODELS = models()


def made_images(channels: int, size: int, classes: int) -> Splits:
    rng = np.random.default_rng(0)
    part = ImageSet(rng.integers(0, 256, (BATCH, channels, size, size), dtype=np.uint8), np.arange(BATCH) % classes)
    return Splits(part, part, part, [str(number) for number in range(classes)], np.full(channels, 0.5), np.full(channels, 0.29))


def train_steps(learner: Learner, recipe: Recipe, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    """By the pipeline's own loop, which raises DivergedError where a loss or a weight is not finite."""
    gamma = recipe.awp.gamma if recipe.awp else 0.0
    run_epoch(learner, batches, recipe_adversary(recipe), "fp32", tqdm(desc="thirty steps", file=io.StringIO()), gamma=gamma)


def test_no_profile_is_forgotten() -> None:
    assert {"digits", "hcp", "pcl", "mnist", "fashion_mnist"} <= PROFILES.keys()
    assert {model.recipe.network.name for model in MODELS.values()} >= {"small_cnn", "conv6", "resnet110", "vgg19"}


def fast_or_slow(name: str) -> object:
    """With 100 classes instead of 10 one method of each kind is enough, and of ResNet-110 what a profile runs."""
    few = MODELS[name].shape[2] == 10 or name.endswith(("/softmax", "/hcp", "/pcl_deep", "/vgg"))
    profile, _, method = name.replace(",", "/").split("/")[:3]
    large = MODELS[name].recipe.network.name == "resnet110" and method in by_name(params_of(profile))
    return pytest.param(name, marks=() if few and not large else pytest.mark.slow)


@pytest.mark.parametrize("name", [fast_or_slow(name) for name in MODELS])
def test_every_model_of_every_profile_makes_an_attack_step_and_a_training_step(name: str) -> None:
    shape, own = MODELS[name]
    splits = made_images(*shape)
    learner = new_learner(own, splits, CPU, seed=0)
    x, y = to_float(torch.from_numpy(splits.train.images)), torch.from_numpy(splits.train.labels)
    x_adv = pgd(learner.network, x, y, 0.03, steps=1, rel_step_size=0.25, generator=torch.Generator().manual_seed(0))
    assert 0 < (x_adv - x).abs().max().item() <= 0.03 + 1e-6
    with torch.no_grad():
        assert bool(learner.network.eval()(x_adv).isfinite().all())
    before = [weight.clone() for weight in learner.network.state_dict().values()]
    train_steps(learner, own, iter([(x, y)]))
    assert not all(map(torch.equal, learner.network.state_dict().values(), before))


# On real images: minutes for conv6, an hour for ResNet-110 without a GPU.

STEPS, IMAGES_A_STEP = 30, 32  # fewer than the papers' 128 and 256, so gradients are noisier
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REAL = ("mnist", "fashion_mnist", "cifar10")
FOLDER = os.environ.get("PIPELINE_IMAGES", "")


@cache
def real_images(dataset: str) -> Splits:
    sample = {"train": 2000, "test": 100, "seed": 0}
    return make_splits(*public_set(dataset=dataset, form="parquet", folder=FOLDER), fraction=0.1, seed=0, sample=sample)


def after_thirty_steps(dataset: str, recipe: Recipe, start: dict[str, Tensor] | None) -> Learner:
    splits = real_images(dataset)
    learner = new_learner(recipe, splits, DEVICE, seed=0)
    if start is not None:
        learner.network.load_state_dict(start)
    augment = recipe.augment.model_dump()
    batches = training_batches(*on_device(splits.train, DEVICE), learner.generator, batch_size=IMAGES_A_STEP, **augment)
    train_steps(learner, recipe, islice(batches, STEPS))
    return learner


@cache
def softmax_weights(profile: str, dataset: str) -> dict[str, Tensor]:
    return after_thirty_steps(dataset, recipe(params_of(profile), dataset, "softmax"), None).network.state_dict()


def papers_methods() -> Iterator[tuple[str, str, str]]:
    """Profile, data set and method, of equal ones the first; also those by name, but for the losses as printed, which diverge."""
    seen = set[tuple[str, str]]()
    for dataset in REAL:
        for profile in ("pcl", "hcp"):
            params = params_of(profile)
            for method in (name for name in [*params.run.methods, *by_name(params)] if not name.endswith("_printed")):
                own = dataset, recipe(params, dataset, method).model_dump_json()
                if own not in seen:
                    seen.add(own)
                    yield profile, dataset, method


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="set PIPELINE_IMAGES to a folder with mnist, fashion_mnist and cifar10 as parquet files")
@pytest.mark.parametrize(("profile", "dataset", "method"), list(papers_methods()))
def test_no_method_leaves_the_finite_numbers_on_real_images(profile: str, dataset: str, method: str) -> None:
    own = recipe(params_of(profile), dataset, method)
    after_thirty_steps(dataset, own, softmax_weights(profile, dataset) if own.init == "softmax" else None)
