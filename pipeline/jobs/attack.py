"""Stage attack: every attack of the run on one model, image by image, then the verdict on it (verdict.py)."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.attacks.kinds import stops_early, takes_targets
from pipeline.attacks.mim import mim
from pipeline.attacks.objective import joint, joint_targeted
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import Trial, attackable, clean_features, measure, noise_trials, summary_metrics, trials
from pipeline.jobs.prototypes import judge_prototypes
from pipeline.jobs.trained import model_of, test_images
from pipeline.jobs.trials import attacked_once, cw_trials, named_attacks
from pipeline.jobs.verdict import judge_model
from pipeline.params.items import AttackItem, item_file
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.runtime.unfinished import unfinished_work
from pipeline.tracking.run import track
from pipeline.tracking.store import Settings
from pipeline.training.criterion import Criterion

Arrays = dict[str, np.ndarray]
UNDEFENDED = "softmax"  # trained by stage pretrain, for every data set and seed


def attack_model(item: AttackItem, seed: int, tracking: Settings) -> None:
    """Writes into data/attacks/DATASET/METHOD/SEED: outcomes.parquet (a row per attack, eps and test image), images.npz (the first
    adversarial images, as many as the item keeps), features.npz (features of the clean test images, by layer) and run.json (what
    MLflow is told); and the verdict into data/verdict/DATASET/METHOD/SEED, see `judge_model` and `judge_prototypes`. A killed run
    goes on after the last attack that was done."""
    dataset, method = item.dataset, item.method
    device = set_up_device(item.compute.device, item.compute.threads)
    images_file, model_file = Path("data", f"{dataset}.npz"), Path("models", dataset, method, f"{seed}.pt")
    splits = load_splits(images_file)
    network, criterion, made_with = model_of(dataset, method, seed, splits, device)
    sibling_file = Path("models", dataset, UNDEFENDED, f"{seed}.pt")
    inputs = [item_file(dataset, "attack", method), images_file, model_file, sibling_file]
    key = content_key([path for path in inputs if path.exists()], seed, device.type)
    check_same("what is attacked", key)
    folder = Path("data/attacks", dataset, method, str(seed))
    tracked = track(
        tracking,
        model=f"{dataset}/{method}/{seed}",
        key=key,
        params={**made_with, "attack": item.model_dump(mode="json", exclude={"code"})},
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": "attack"},
        record=folder / "run.json",
        trained=made_with["key"],
    )
    with unfinished_work("attack", dataset, method, seed, key=key) as unfinished, tracked as run:
        images, labels = test_images(splits, item.images, device)
        victim = attackable(network, images, item.compute.precision)
        kept = {"all": len(images), "none": 0}.get(str(item.keep_images), item.keep_images)
        outcomes, examples = measure(
            victim,
            images,
            labels,
            _plan(item, criterion),
            seed=seed,
            keep=int(kept),
            made=partial(attacked_once, folder=unfinished),
        )
        if is_main():
            features = clean_features(network, images, batch_size=item.batch_size)
            _write(folder, outcomes, features, examples, labels.cpu().numpy())
        sibling = model_of(dataset, UNDEFENDED, seed, splits, device)[0] if sibling_file.exists() else None
        first = slice(None if item.verdict.images == "all" else int(item.verdict.images))
        own: dict[str, Any] = {"images": images[first], "labels": labels[first], "unfinished": unfinished}
        verdict = judge_model(item, seed, network, criterion, splits=splits, papers=outcomes, sibling=sibling, **own)
        verdict |= judge_prototypes(item, seed, network, criterion, **own)
        run.log(summary_metrics(outcomes) | verdict)
    shown = summary_metrics(outcomes) | verdict
    print(f"{dataset} {method} {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))


def _plan(item: AttackItem, criterion: Criterion) -> list[Trial]:
    """The l-inf attacks at every eps, then what else is measured on this method."""
    attacks = {
        name: partial(attack, stop="sample") if stops_early(attack) else attack
        for name, attack in named_attacks(item.attacks).items()
    }
    plan = trials(attacks, item.eps, item.batch_size)
    if item.cw:
        plan += cw_trials(item.cw, item.c, item.batch_size, item.cw_images)
    if item.adaptive_eps:
        losses = dict(criterion.losses.items())
        adaptive = {
            f"adaptive_{name}": partial(attack, objective=joint_targeted(losses) if takes_targets(attack) else joint(losses))
            for name, attack in attacks.items()
        }
        plan += trials(adaptive, [item.adaptive_eps], item.batch_size)
    if item.noise:
        plan += noise_trials(mim, **item.noise.model_dump())
    return plan


def _write(folder: Path, outcomes: pd.DataFrame, features: Arrays, kept: Arrays, labels: np.ndarray) -> None:
    arrays = {"features.npz": {**features, "label": labels, "layers": np.array(list(features))}}
    if kept:
        arrays["images.npz"] = {**kept, "label": labels[: len(next(iter(kept.values())))]}
    for name, content in arrays.items():
        with atomic_path(folder / name) as path:
            np.savez(path, **dict[str, Any](content))
    with atomic_path(folder / "outcomes.parquet") as path:
        outcomes.to_parquet(path, index=False, write_page_checksum=True)
