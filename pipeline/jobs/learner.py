"""What is trained, as an item describes it: network, criterion, optimiser, adversary."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from pipeline.attacks import ATTACKS
from pipeline.data.batches import training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.evaluation.accuracy import accuracy
from pipeline.losses import LOSSES
from pipeline.models import NETWORKS
from pipeline.models.ensemble import Ensemble
from pipeline.models.network import Network
from pipeline.models.replayed import replayed
from pipeline.params.items import Recipe
from pipeline.runtime.distributed import world_size
from pipeline.training.adversary import Adversary, attacked_in_parts, clean_only, mixed_with_attacked
from pipeline.training.criterion import Criterion, build_criterion
from pipeline.training.ema import MovingAverage
from pipeline.training.loop import fit
from pipeline.training.optimizer import build_optimizer
from pipeline.training.state import Learner, Row
from pipeline.training.synced_norm import with_synced_norms
from pipeline.training.twin import OnTwin


def build_network(choice: Mapping[str, Any], ensemble: int, classes: int, mean: Tensor, std: Tensor) -> Network:
    """choice: `name` and options; mean, std: (C,)."""
    options = dict(choice)
    network = NETWORKS[options.pop("name")]
    members = [network(classes, mean, std, **options) for _ in range(ensemble)]
    return members[0] if ensemble == 1 else Ensemble(members)


def recipe_criterion(recipe: Mapping[str, Any], network: Network, classes: int) -> Criterion:
    """recipe: a Recipe as nested dicts."""
    options = dict(recipe["loss"] or {})
    name = options.pop("name", "none")
    return build_criterion(
        partial(LOSSES[name], **options) if recipe["loss"] else None,
        name=name,
        dims=network.dims,
        classes=classes,
        **{key: recipe[key] for key in ("layers", "auxiliary", "cross_entropy", "input_gradient", "trades")},
    )


def new_learner(recipe: Recipe, splits: Splits, device: torch.device, seed: int) -> Learner:
    """Random weights and prototypes, from the seed alone."""
    torch.manual_seed(seed)
    classes, mean, std = len(splits.classes), torch.from_numpy(splits.mean), torch.from_numpy(splits.std)
    network = build_network(recipe.network.model_dump(), recipe.ensemble, classes, mean, std)
    network = (with_synced_norms(network) if world_size() > 1 else network).to(device)
    network = network.to(memory_format=torch.channels_last)  # 1.2 to 1.7 times as fast on a CPU
    criterion = recipe_criterion(recipe.model_dump(), network, classes).to(device)
    settings = {name: group.model_dump() for name, group in recipe.prototypes.items()}
    weights = [*network.parameters(), *criterion.heads.parameters()]
    optimizer = build_optimizer(weights, criterion.prototypes(), recipe.optimizer.model_dump(), settings)
    average = MovingAverage(network, criterion, recipe.ema) if recipe.ema else None
    return Learner(network, criterion, optimizer, Generator(device).manual_seed(seed), average)


def recipe_adversary(recipe: Recipe) -> Adversary:
    if recipe.adversary is None:
        return clean_only
    attack = recipe.adversary.attack
    return OnTwin(
        partial(
            mixed_with_attacked,
            attack=partial(ATTACKS[attack.name], **attack.options),
            eps_range=recipe.adversary.eps,
            clean_share=recipe.adversary.clean_share,
            labels=recipe.adversary.labels,
        )
    )


def train(
    learner: Learner,
    recipe: Recipe,
    splits: Splits,
    *,
    precision: str,
    checkpoint: Path,
    params: Mapping[str, Any],
    on_epoch: Callable[[Row, float | None], None],
) -> list[Row]:
    """`fit` with what the recipe says; `params`, kept in the checkpoint, is what made the model."""
    return fit(
        learner,
        batches=recipe_batches(recipe, splits, learner.generator.device),
        images=len(splits.train.images),
        epochs=recipe.epochs,
        adversary=recipe_adversary(recipe),
        precision=precision,
        awp=None if recipe.awp is None else recipe.awp.model_dump(),
        validate=validation(learner, recipe, splits),
        keep=recipe.keep,
        checkpoint=checkpoint,
        params=params,
        on_epoch=on_epoch,
    )


def recipe_batches(recipe: Recipe, splits: Splits, device: torch.device) -> Callable[..., Any]:
    """Of a generator: one epoch of training batches."""
    images, labels = on_device(splits.train, device)
    return partial(training_batches, images, labels, batch_size=recipe.batch_size, **recipe.augment.model_dump())


def validation(learner: Learner, recipe: Recipe, splits: Splits) -> Callable[[bool], Row]:
    """Accuracy in % on the validation split of what would be kept now. With an adversary also under its attack on the cross
    entropy, in the middle of its range of eps, each time with the same draws: after the last epoch, so that one sees whether the
    model has learnt, and where the best epoch is kept after each."""
    device = learner.generator.device
    images, labels = on_device(splits.validation, device)
    measure = partial(accuracy, replayed(learner.trained()[0], device), images, labels, batch_size=recipe.batch_size)

    def validate(last: bool) -> Row:
        row = {"validation_accuracy": measure()}
        if recipe.adversary is not None and (last or recipe.keep == "best"):
            choice, eps = recipe.adversary.attack, sum(recipe.adversary.eps) / 2
            draws = Generator(device).manual_seed(0)
            attack = partial(ATTACKS[choice.name], **choice.options)
            row["validation_robust"] = measure(attack=partial(attacked_in_parts, eps=eps, generator=draws, attack=attack))
        return row

    return validate


def on_device(part: ImageSet, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.images).to(device), torch.from_numpy(part.labels).to(device)
