"""The first half of stage attack: every attack of the run on one model, image by image."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.attacks import AIMED, ATTACKS, ITERATED
from pipeline.attacks.cw import cw
from pipeline.attacks.mim import mim
from pipeline.attacks.objective import joint, joint_targeted
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import (
    Attack,
    Trial,
    attackable,
    clean_features,
    measure,
    noise_trials,
    summary_metrics,
    trials,
)
from pipeline.jobs.learner import load_model, test_images
from pipeline.params.schema import Dataset, Evaluation, Params, pick
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.tracking import track
from pipeline.training.criterion import Criterion

Arrays = dict[str, np.ndarray]
CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]  # rooms that the outcomes follow from


def attack_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes into data/attacks/DATASET/METHOD/SEED: outcomes.parquet (a row per attack, eps and test image), images.npz (the first
    adversarial images, as many as params.yaml keeps) and features.npz (features of the clean test images, by layer)."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    pick(params.methods, method, "method")
    evaluation, device = data.evaluation, set_up_device(params.compute.device, params.compute.threads)
    images_file, model_file = f"data/{dataset}.npz", f"models/{dataset}/{method}/{seed}.pt"
    splits = load_splits(images_file)
    network, criterion, trained_with = load_model(model_file, device)
    used = {
        "evaluation": evaluation.model_dump(),
        "attacks": {name: params.attacks[name].model_dump() for name in params.run.attacks},
        "measure": params.measure[method],
        "headline_eps": data.headline_eps,
        "compute": {**params.compute.model_dump(exclude={"precision"}), "device": device.type},
        "dataset": dataset,
        "method": method,
        "seed": seed,
    }
    key = content_key(used, [images_file, model_file], CODE)
    check_same("what is attacked", key)
    with track(
        enabled=params.tracking.enabled and is_main(),
        uri=params.tracking.uri,
        experiment="robustness",
        name=f"{dataset} {method} {seed}",
        key=key,
        params={**used, "trained_with": trained_with},
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": os.environ.get("DVC_STAGE", "attack")},
    ) as run:
        images, labels = test_images(data, splits, device)
        victim = attackable(network, images, params.compute.attack_precision)
        plan, keep = _plan(params, data, method, criterion), _kept(evaluation, len(images))
        outcomes, kept = measure(victim, images, labels, plan, seed=seed, keep=keep)
        if is_main():
            features = clean_features(network, images, batch_size=evaluation.batch_size)
            _write(Path("data/attacks", dataset, method, str(seed)), outcomes, features, kept, labels.cpu().numpy())
        summary = summary_metrics(outcomes)
        run.log(summary)
    print(f"{dataset} {method} {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items()))


def _plan(params: Params, data: Dataset, method: str, criterion: Criterion) -> list[Trial]:
    """The l-inf attacks of the run at every eps, then what params.yaml, measure, has for this method."""
    evaluation, kinds = data.evaluation, params.measure[method]
    attacks = {
        name: partial(attack, stop="sample") if params.attacks[name].name in ITERATED else attack
        for name, attack in linf_attacks(params).items()
    }
    plan = trials(attacks, evaluation.eps + (evaluation.sweep if "sweep" in kinds else []), evaluation.batch_size)
    if "cw" in kinds:
        plan += cw_trials(params, evaluation, evaluation.c)
    if "adaptive" in kinds:
        losses = dict(criterion.losses.items())
        adaptive = {
            f"adaptive_{name}": partial(
                attack, objective=joint_targeted(losses) if params.attacks[name].name in AIMED else joint(losses)
            )
            for name, attack in attacks.items()
        }
        plan += trials(adaptive, [data.headline_eps], evaluation.batch_size)
    if "noise" in kinds:
        plan += noise_trials(mim, **params.noise.model_dump())
    return plan


def linf_attacks(params: Params) -> dict[str, Attack]:
    """run.attacks with their options."""
    chosen = {name: params.attacks[name] for name in params.run.attacks}
    return {name: partial(ATTACKS[choice.name], **choice.options) for name, choice in chosen.items()}


def cw_trials(params: Params, evaluation: Evaluation, constants: Sequence[float]) -> list[Trial]:
    attack = partial(cw, **params.attacks["cw"].options)
    return trials({"cw": attack}, constants, evaluation.batch_size, evaluation.cw_images)


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
