"""The second half of stage attack: AutoAttack, an attacker who knows the defence, and signs of masked gradients, on one model."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.attacks import ATTACKS
from pipeline.attacks.apgd import Norm, apgd, apgd_targeted
from pipeline.attacks.objective import dlr, features, joint, joint_targeted, margin, targeted_margin
from pipeline.attacks.pgd import pgd
from pipeline.data.batches import to_float
from pipeline.data.image_set import ImageSet, load_splits
from pipeline.evaluation.centres import class_means
from pipeline.evaluation.masking import masking_numbers
from pipeline.evaluation.robustness import (
    Attack,
    Trial,
    Victim,
    attackable,
    attacked,
    clean_features,
    outcome_rows,
    predict_by_turns,
    progress,
    summary_metrics,
)
from pipeline.evaluation.worst_case import in_turn, side_by_side, worst_examples
from pipeline.jobs.learner import load_model, on_device, test_images
from pipeline.models.network import Network
from pipeline.params.choices import AttackChoice
from pipeline.params.schema import Adaptive, Dataset, Params, pick
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.tracking import track
from pipeline.training.criterion import Criterion

CODE = ["attacks", "data", "evaluation", "jobs", "losses", "models", "training"]  # rooms that the outcomes follow from
ADAPTIVE = "adaptive"
AUTOATTACK = {"linf": "autoattack", "l2": "autoattack_l2"}  # what outcomes call it


def judge_model(params: Params, dataset: str, method: str, seed: int) -> None:
    """Writes into data/verdict/DATASET/METHOD/SEED: outcomes.parquet (rows as in data/attacks; `autoattack` and `adaptive` are the
    worst cases, `autoattack/apgd_ce` and so on their parts), checks.json (signs of masked gradients, as measured), examples.npz
    (the worst adversarial images). A killed run goes on after the last attack that was done."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    pick(params.methods, method, "method")
    device = set_up_device(params.compute.device, params.compute.threads)
    images_file, model_file = f"data/{dataset}.npz", f"models/{dataset}/{method}/{seed}.pt"
    splits = load_splits(images_file)
    network, criterion, trained_with = load_model(model_file, device)
    eps = {"linf": data.headline_eps, **({"l2": data.headline_l2} if "l2" in params.measure[method] else {})}
    used = {
        "evaluation": {"images": data.evaluation.images, "batch_size": data.evaluation.batch_size},
        "verdict": params.verdict.model_dump(),
        "autoattack": {name: choice.model_dump() for name, choice in params.autoattack[params.verdict.autoattack].items()},
        "pgd": params.attacks["pgd"].model_dump(),
        "eps": eps,
        "compute": {**params.compute.model_dump(exclude={"precision"}), "device": device.type},
        "dataset": dataset,
        "method": method,
        "seed": seed,
    }
    key = content_key(used, [images_file, model_file], CODE)
    check_same("what is judged", key)
    unfinished = Path(os.environ.get("DVC_ROOT", ".")) / ".ckpt" / f"verdict-{dataset}-{method}-{seed}"
    with track(
        enabled=params.tracking.enabled and is_main(),
        uri=params.tracking.uri,
        experiment="verdict",
        name=f"{dataset} {method} {seed}",
        key=key,
        params={**used, "trained_with": trained_with},
        tags={"dataset": dataset, "method": method, "seed": str(seed), "stage": os.environ.get("DVC_STAGE", "attack")},
    ) as run:
        images, labels = test_images(data, splits, device)
        centres = _centres(network, criterion, splits.train, data.evaluation.batch_size)
        plan = _plan(params, data, eps, criterion, centres, network.classes)
        victim = attackable(network, images, params.compute.attack_precision)
        outcomes, examples = _outcomes(plan, victim, images, labels, seed, unfinished / key, params.verdict.examples)
        checks = masking_numbers(network, images, labels, data.headline_eps, batch_size=data.evaluation.batch_size, seed=seed)
        classes = np.array(splits.classes, dtype=str)
        if is_main():
            _write(Path("data/verdict", dataset, method, str(seed)), outcomes, checks, {**examples, "classes": classes})
        on_all = outcomes[~outcomes["attack"].str.startswith(tuple(f"{name}/" for name in plan.autoattack))]
        summary = summary_metrics(on_all)
        run.log(summary | {f"check/{name}": value for name, value in checks.items()})
    if is_main():
        shutil.rmtree(unfinished, ignore_errors=True)  # with what other params had left unfinished
    print(f"{dataset} {method} {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items()))


class Plan(NamedTuple):
    """autoattack: parts by the name of the whole; each runs on what those before it have left right. The others run on every
    image."""

    autoattack: dict[str, list[Trial]]
    adaptive: list[Trial]
    others: list[Trial]


def autoattack_parts(parts: Mapping[str, AttackChoice], eps: float, norm: Norm, *, classes: int, batch_size: int) -> list[Trial]:
    """AutoAttack as params.yaml has it. With fewer than 4 classes, for which targeted DLR is not defined, the targeted APGD climbs
    the difference of the two logits."""
    own: dict[str, dict[str, Any]] = {"apgd_targeted": {"objective": targeted_margin}} if classes < 4 else {}
    return [
        Trial(
            f"{AUTOATTACK[norm]}/{part}",
            eps,
            partial(ATTACKS[choice.name], norm=norm, **choice.options, **own.get(choice.name, {})),
            batch_size,
        )
        for part, choice in parts.items()
    ]


def _plan(
    params: Params, data: Dataset, eps: Mapping[str, float], criterion: Criterion, centres: Mapping[str, Tensor], classes: int
) -> Plan:
    """AutoAttack in every norm of `eps`; the attacks of one who knows the defence; PGD with a growing number of steps, and with no
    bound but the image range."""
    batch_size = data.evaluation.batch_size
    parts = params.autoattack[params.verdict.autoattack]
    norms = [norm for norm in get_args(Norm) if norm in eps]
    autoattack = {
        AUTOATTACK[norm]: autoattack_parts(parts, eps[norm], norm, classes=classes, batch_size=batch_size) for norm in norms
    }
    knowing = _adaptive(params.verdict.adaptive, criterion, centres, classes)
    adaptive = [Trial(f"{ADAPTIVE}/{name}", eps["linf"], attack, batch_size) for name, attack in knowing.items()]
    rel_step_size = params.attacks["pgd"].options["rel_step_size"]
    others = [
        Trial(f"steps/{steps}", eps["linf"], partial(pgd, steps=steps, rel_step_size=rel_step_size), batch_size)
        for steps in params.verdict.steps
    ]
    most = partial(pgd, steps=max(params.verdict.steps), rel_step_size=rel_step_size, stop="sample")
    return Plan(autoattack, adaptive, [*others, Trial("unbounded", 1.0, most, batch_size)])


def _adaptive(settings: Adaptive, criterion: Criterion, centres: Mapping[str, Tensor], classes: int) -> dict[str, Attack]:
    """APGD on what this defence is made of. The loss's own value can be climbed where it hangs on one image alone."""
    budget: dict[str, Any] = {"steps": settings.steps, "restarts": settings.restarts}
    attacks: dict[str, Attack] = {
        "ce": partial(apgd, **budget),
        "dlr": partial(apgd, **budget, objective=dlr if classes >= 3 else margin),
        "features": partial(apgd, **budget, objective=features(centres)),
    }
    losses = dict(criterion.losses.items())
    if losses and all(loss.by_image for loss in losses.values()):
        attacks["joint"] = partial(apgd, **budget, objective=joint(losses))
        attacks["joint_t"] = partial(apgd_targeted, **budget, targets=settings.targets, objective=joint_targeted(losses))
    return attacks


def _centres(network: Network, criterion: Criterion, train: ImageSet, batch_size: int) -> dict[str, Tensor]:
    """What the attack on the features takes for the classes' places, {layer: (K, D)}: the loss's own centres, or where it has none
    the class means of the last layer on the training images."""
    own = criterion.prototypes().get("centres", [])
    if own:
        return dict(zip(criterion.losses, [centres.detach() for centres in own], strict=True))
    images, labels = on_device(train, next(network.parameters()).device)
    layer, values = list(clean_features(network, to_float(images), batch_size=batch_size).items())[-1]
    return {layer: class_means(torch.from_numpy(values).to(labels.device), labels, network.classes)}


def _outcomes(
    plan: Plan, victim: Victim, images: Tensor, labels: Tensor, seed: int, folder: Path, count: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Rows of everything in `plan`, and the worst examples under l-inf AutoAttack. What an attack has made is kept in `folder`."""
    trials = [*(part for parts in plan.autoattack.values() for part in parts), *plan.adaptive, *plan.others]
    total = len(images) * len(trials)
    with progress(total) as bar:

        def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            path = folder / f"{trial.attack.replace('/', '-')}-{_digest(x, y)}.npy"
            done = path.exists()
            check_same("what an attack is given and whether it was done before", f"{path.name} {done}")
            if done:
                x_adv = torch.from_numpy(np.load(path)).to(x.device)
                prediction = predict_by_turns(victim.model, x_adv, batch_size=trial.batch_size)
                bar.update(len(x))
            else:
                x_adv, prediction = attacked(victim, x, y, trial, seed=seed, bar=bar)
                if is_main():
                    with atomic_path(path) as part:
                        np.save(part, x_adv.cpu().numpy())
            bar.update(len(images) - len(x))  # those that need no attack any more
            return x_adv, prediction

        clean = Trial("clean", 0.0, lambda *_: images, max(trial.batch_size for trial in trials))
        prediction = predict_by_turns(victim.model, images, batch_size=clean.batch_size)
        frames = [outcome_rows(clean, images, labels, images, prediction)]
        made = {name: in_turn(name, images, labels, prediction, parts, run) for name, parts in plan.autoattack.items()}
        frames += [rows for rows, _ in made.values()]
        bar.update(total - bar.n - len(images) * len([*plan.adaptive, *plan.others]))  # parts that nothing was left for
        adaptive = [outcome_rows(trial, images, labels, *run(trial, images, labels)) for trial in plan.adaptive]
        frames += [*adaptive, side_by_side(ADAPTIVE, pd.concat(adaptive))]
        frames += [outcome_rows(trial, images, labels, *run(trial, images, labels)) for trial in plan.others]
    rows, x_worst = made["autoattack"]
    examples = worst_examples(victim.model, images, labels, x_worst, rows, count=count, batch_size=clean.batch_size)
    return pd.concat(frames, ignore_index=True), examples


def _digest(x: Tensor, y: Tensor) -> str:
    """Of what an attack was given: on another device other images may have been left standing."""
    return hashlib.sha256(x.cpu().numpy().tobytes() + y.cpu().numpy().tobytes()).hexdigest()[:12]


def _write(folder: Path, outcomes: pd.DataFrame, checks: Mapping[str, float], examples: Mapping[str, np.ndarray]) -> None:
    with atomic_path(folder / "checks.json") as path:
        path.write_text(json.dumps(dict(checks), indent=2) + "\n")
    with atomic_path(folder / "examples.npz") as path:
        np.savez(path, **dict[str, Any](examples))
    with atomic_path(folder / "outcomes.parquet") as path:
        outcomes.to_parquet(path, index=False)
