"""The second half of stage attack: AutoAttack, an attacker who knows the defence, and signs of masked gradients, on one model."""

import hashlib
import json
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
from pipeline.data.image_set import ImageSet, Splits
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
    predict_over_ranks,
    progress,
    summary_metrics,
)
from pipeline.evaluation.worst_case import worst_case_in_sequence, worst_case_of_all, worst_examples
from pipeline.jobs.learner import on_device, test_images
from pipeline.models.network import Network
from pipeline.params.choices import AttackChoice
from pipeline.params.items import AttackItem, VerdictSettings
from pipeline.params.schema import Adaptive
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path
from pipeline.training.criterion import Criterion

ADAPTIVE = "adaptive"
AUTOATTACK = {"linf": "autoattack", "l2": "autoattack_l2"}  # what outcomes call it


def judge_model(
    item: AttackItem, seed: int, *, network: Network, criterion: Criterion, splits: Splits, unfinished: Path
) -> dict[str, float]:
    """Writes into data/verdict/DATASET/METHOD/SEED: outcomes.parquet (rows as in data/attacks; `autoattack` and `adaptive` are the
    worst cases, `autoattack/apgd_ce` and so on their parts), checks.json (signs of masked gradients, as measured), examples.npz
    (the worst adversarial images). Returns the figures. A killed run goes on after the last attack that was done, from the folder
    `unfinished`."""
    verdict, device = item.verdict, next(network.parameters()).device
    images, labels = test_images(splits, item.images, device)
    count = len(images) if isinstance(verdict.images, str) else verdict.images
    images, labels = images[:count], labels[:count]
    centres = _centres(network, criterion, splits.train, item.batch_size)
    plan = _plan(verdict, item.pgd, criterion, centres, classes=network.classes, batch_size=item.batch_size)
    victim = attackable(network, images, item.compute.precision)
    outcomes, examples = _outcomes(plan, victim, images, labels, seed, unfinished, verdict.examples)
    checks = masking_numbers(network, images, labels, verdict.eps, batch_size=item.batch_size, seed=seed)
    if is_main():
        classes = np.array(splits.classes, dtype=str)
        _write(Path("data/verdict", item.dataset, item.method, str(seed)), outcomes, checks, {**examples, "classes": classes})
    on_all = outcomes[~outcomes["attack"].str.startswith(tuple(f"{name}/" for name in plan.autoattack))]
    return summary_metrics(on_all) | {f"check/{name}": value for name, value in checks.items()}


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
    verdict: VerdictSettings,
    pgd_choice: AttackChoice,
    criterion: Criterion,
    centres: Mapping[str, Tensor],
    *,
    classes: int,
    batch_size: int,
) -> Plan:
    """AutoAttack in every norm with a strength; the attacks that know the defence; PGD with a growing number of steps, and with no
    bound but the image range."""
    strengths = {"linf": verdict.eps, "l2": verdict.l2}
    autoattack = {
        AUTOATTACK[norm]: autoattack_parts(verdict.autoattack, eps, norm, classes=classes, batch_size=batch_size)
        for norm in get_args(Norm)
        if (eps := strengths[norm]) is not None
    }
    knowing = _adaptive(verdict.adaptive, criterion, centres, classes)
    adaptive = [Trial(f"{ADAPTIVE}/{name}", verdict.eps, attack, batch_size) for name, attack in knowing.items()]
    rel_step_size = pgd_choice.options["rel_step_size"]
    others = [
        Trial(f"steps/{steps}", verdict.eps, partial(pgd, steps=steps, rel_step_size=rel_step_size), batch_size)
        for steps in verdict.steps
    ]
    most = partial(pgd, steps=max(verdict.steps), rel_step_size=rel_step_size, stop="sample")
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
                prediction = predict_over_ranks(victim.model, x_adv, batch_size=trial.batch_size)
                bar.update(len(x))
            else:
                x_adv, prediction = attacked(victim, x, y, trial, seed=seed, bar=bar)
                if is_main():
                    with atomic_path(path) as part:
                        np.save(part, x_adv.cpu().numpy())
            bar.update(len(images) - len(x))  # those that need no attack any more
            return x_adv, prediction

        clean = Trial("clean", 0.0, lambda *_: images, max(trial.batch_size for trial in trials))
        prediction = predict_over_ranks(victim.model, images, batch_size=clean.batch_size)
        frames = [outcome_rows(clean, images, labels, images, prediction)]
        made = {
            name: worst_case_in_sequence(name, images, labels, prediction, parts, run) for name, parts in plan.autoattack.items()
        }
        frames += [rows for rows, _ in made.values()]
        bar.update(total - bar.n - len(images) * len([*plan.adaptive, *plan.others]))  # parts that nothing was left for
        adaptive = [outcome_rows(trial, images, labels, *run(trial, images, labels)) for trial in plan.adaptive]
        frames += [*adaptive, worst_case_of_all(ADAPTIVE, pd.concat(adaptive))]
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
