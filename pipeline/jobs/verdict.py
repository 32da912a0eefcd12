"""The second half of stage attack: AutoAttack, adaptive attacks, and signs of masked gradients, on one model."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.attacks import ATTACKS
from pipeline.attacks.apgd import Norm, apgd, apgd_targeted
from pipeline.attacks.mim import mim
from pipeline.attacks.objective import dlr, features, joint, joint_targeted, margin, targeted_margin
from pipeline.attacks.pgd import pgd
from pipeline.attacks.square import square
from pipeline.data.batches import to_float
from pipeline.data.image_set import ImageSet, Splits
from pipeline.evaluation.centres import class_means
from pipeline.evaluation.follow_up import made_on
from pipeline.evaluation.masking import masking_numbers
from pipeline.evaluation.robustness import (
    Attack,
    Trial,
    Victim,
    attackable,
    clean_features,
    outcome_rows,
    predict_over_ranks,
    progress,
    summary_metrics,
)
from pipeline.evaluation.worst_case import worst_case_in_sequence, worst_case_of_all, worst_examples
from pipeline.jobs.follow_up import Next, followed_up
from pipeline.jobs.learner import on_device
from pipeline.jobs.trials import attacked_once
from pipeline.models.network import Network
from pipeline.params.choices import AttackChoice
from pipeline.params.items import AttackItem, VerdictSettings
from pipeline.params.measured import Adaptive
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path
from pipeline.training.criterion import Criterion

ADAPTIVE, SIBLING = "adaptive", "sibling"
AUTOATTACK = {"linf": "autoattack", "l2": "autoattack_l2"}  # what outcomes call it


def judge_model(
    item: AttackItem,
    seed: int,
    network: Network,
    criterion: Criterion,
    *,
    images: Tensor,
    labels: Tensor,
    splits: Splits,
    unfinished: Path,
    papers: pd.DataFrame,
    sibling: nn.Module | None,
) -> dict[str, float]:
    """Writes into data/verdict/DATASET/METHOD/SEED: outcomes.parquet (rows as in data/attacks; `autoattack` and `adaptive` are the
    worst cases, `autoattack/apgd_ce` and so on their parts), checks.json (signs of masked gradients, as measured), examples.npz
    (the worst adversarial images). Returns the figures. A killed run goes on after the last attack that was done, from the folder
    `unfinished`. images: (N, C, H, W) in [0, 1], labels: (N,), those of the verdict; papers: outcomes of the papers' attacks on the
    model; sibling: the undefended model of the same data set and seed, whose adversarial images are evaluated on it."""
    verdict = item.verdict
    centres = _centres(network, criterion, splits.train, item.batch_size)
    plan = _plan(verdict, item.pgd, criterion, centres, classes=network.classes, batch_size=item.batch_size)
    if sibling is not None:
        plan.adaptive.append(_sibling(attackable(sibling, images, item.compute.precision).twin, verdict, item.batch_size))
    victim = attackable(network, images, item.compute.precision)
    outcomes, examples, checks = judge(
        network,
        victim,
        images,
        labels,
        plan,
        verdict.eps,
        batch_size=item.batch_size,
        seed=seed,
        unfinished=unfinished,
        examples=verdict.examples,
        papers=papers,
    )
    if is_main():
        classes = np.array(splits.classes, dtype=str)
        _write(Path("data/verdict", item.dataset, item.method, str(seed)), outcomes, checks, {**examples, "classes": classes})
    on_all = outcomes[~outcomes["attack"].str.startswith(tuple(f"{name}/" for name in plan.autoattack))]
    return summary_metrics(on_all) | {f"check/{name}": value for name, value in checks.items()}


def judge(
    model: nn.Module,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    plan: "Plan",
    eps: float,
    *,
    batch_size: int,
    seed: int,
    unfinished: Path,
    examples: int,
    papers: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[str, float]]:
    """Any model, and what attacks see of it: all of `plan`, what an attack made being kept in the folder `unfinished`; the checks
    at the l-inf strength `eps`; and what `plan` has for a model on which they warn. images: (N, C, H, W) in [0, 1], labels: (N,);
    papers: outcomes that the checks go by besides -> outcomes by image, the worst examples, the checks' numbers."""
    outcomes, worst = _outcomes(plan, victim, images, labels, seed, unfinished, examples)
    numbers = masking_numbers(model, images, labels, eps, batch_size=batch_size, seed=seed)
    if plan.then is not None:
        parts = [*plan.autoattack["autoattack"], *plan.confirm]
        by_scores = [part.attack for part in parts if getattr(part.run, "func", None) is square]
        outcomes = followed_up(
            outcomes,
            numbers,
            model,
            victim,
            images,
            labels,
            plan.then,
            papers=papers,
            square_parts=by_scores,
            eps=eps,
            batch_size=batch_size,
            seed=seed,
            folder=unfinished,
        )
    return outcomes, worst, numbers


class Plan(NamedTuple):
    """autoattack: parts by the name of the whole; each runs on the images still classified correctly. The others run on every
    image. confirm: the parts of a second version, on what l-inf AutoAttack leaves where that is more than chance; then: what is
    tried where a check warns."""

    autoattack: dict[str, list[Trial]]
    adaptive: list[Trial]
    others: list[Trial]
    confirm: Sequence[Trial] = ()
    then: Next | None = None


def autoattack_parts(
    parts: Mapping[str, AttackChoice], eps: float, norm: Norm, *, classes: int, batch_size: int, name: str = ""
) -> list[Trial]:
    """AutoAttack as params.yaml has it, under `name` or the usual one. With fewer than 4 classes, for which targeted DLR is not
    defined, the targeted APGD climbs the difference of the two logits."""
    own: dict[str, dict[str, Any]] = {"apgd_targeted": {"objective": targeted_margin}} if classes < 4 else {}
    return [
        Trial(
            f"{name or AUTOATTACK[norm]}/{part}",
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
    knowing = adaptive_attacks(verdict.adaptive, criterion, centres, classes)
    adaptive = [Trial(f"{ADAPTIVE}/{name}", verdict.eps, attack, batch_size) for name, attack in knowing.items()]
    rel_step_size = pgd_choice.options["rel_step_size"]
    others = [
        Trial(f"steps/{steps}", verdict.eps, partial(pgd, steps=steps, rel_step_size=rel_step_size), batch_size)
        for steps in verdict.steps
    ]
    most = partial(pgd, steps=max(verdict.steps), rel_step_size=rel_step_size, stop="sample")
    return Plan(
        autoattack,
        adaptive,
        [*others, Trial("unbounded", 1.0, most, batch_size)],
        autoattack_parts(verdict.confirm, verdict.eps, "linf", classes=classes, batch_size=batch_size),
        Next(verdict.follow_up, "linf", verdict.eps),
    )


def _sibling(twin: nn.Module, verdict: VerdictSettings, batch_size: int) -> Trial:
    """Images made on the undefended model. MIM, which was made for transfer, and to the end: an image that only just fools that
    model fools no other."""
    attack = partial(mim, steps=max(verdict.steps), rel_step_size=0.1, decay=1.0)
    return Trial(f"{ADAPTIVE}/{SIBLING}", verdict.eps, made_on(twin, attack), batch_size)


def adaptive_attacks(
    settings: Adaptive, criterion: Criterion, centres: Mapping[str, Tensor], classes: int, norm: Norm = "linf"
) -> dict[str, Attack]:
    """APGD on the defence's own objectives. Its loss is maximised only where it depends on one image alone. centres: as
    `_centres` returns them; without any, no attack goes by the features."""
    budget: dict[str, Any] = {"steps": settings.steps, "restarts": settings.restarts, "norm": norm}
    attacks: dict[str, Attack] = {
        "ce": partial(apgd, **budget),
        "dlr": partial(apgd, **budget, objective=dlr if classes >= 3 else margin),
    }
    if centres:
        attacks["features"] = partial(apgd, **budget, objective=features(centres))
    losses = dict(criterion.losses.items())
    if losses and all(loss.by_image for loss in losses.values()):
        attacks["joint"] = partial(apgd, **budget, objective=joint(losses))
        attacks["joint_t"] = partial(apgd_targeted, **budget, targets=settings.targets, objective=joint_targeted(losses))
    return attacks


def _centres(network: Network, criterion: Criterion, train: ImageSet, batch_size: int) -> dict[str, Tensor]:
    """What the attack on the features takes for the classes' places, {layer: (K, D)}: the loss's own centres, or where it has none
    the class means of the last layer on the training images; nothing where a class has no training image."""
    own = criterion.prototypes().get("centres", [])
    if own:
        return dict(zip(criterion.losses, [centres.detach() for centres in own], strict=True))
    images, labels = on_device(train, next(network.parameters()).device)
    if not (count := labels.bincount(minlength=network.classes)).all():
        print(f"no adaptive attack on the features: classes {(count == 0).nonzero()[:, 0].tolist()} have no training image")
        return {}
    layer, values = list(clean_features(network, to_float(images), batch_size=batch_size).items())[-1]
    return {layer: class_means(torch.from_numpy(values).to(labels.device), labels, network.classes)}


def _outcomes(
    plan: Plan, victim: Victim, images: Tensor, labels: Tensor, seed: int, folder: Path, count: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Rows of everything in `plan`, and the worst examples under l-inf AutoAttack. What an attack has made is kept in `folder`."""
    trials = [*(part for parts in plan.autoattack.values() for part in parts), *plan.confirm, *plan.adaptive, *plan.others]
    total = len(images) * len(trials)
    with progress(total) as bar:

        def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            made = attacked_once(victim, x, y, trial, seed=seed, folder=folder, bar=bar)
            bar.update(len(images) - len(x))  # those that need no attack any more
            return made

        clean = Trial("clean", 0.0, lambda *_: images, max(trial.batch_size for trial in trials))
        prediction = predict_over_ranks(victim.model, images, batch_size=clean.batch_size)
        frames = [outcome_rows(clean, images, labels, images, prediction)]
        made = {
            name: worst_case_in_sequence(
                name, images, labels, prediction, parts, run, confirm=plan.confirm if name == AUTOATTACK["linf"] else ()
            )
            for name, parts in plan.autoattack.items()
        }
        frames += [rows for rows, _ in made.values()]
        bar.update(total - bar.n - len(images) * len([*plan.adaptive, *plan.others]))  # parts that nothing was left for
        adaptive = [outcome_rows(trial, images, labels, *run(trial, images, labels)) for trial in plan.adaptive]
        frames += [*adaptive, worst_case_of_all(ADAPTIVE, pd.concat(adaptive))]
        frames += [outcome_rows(trial, images, labels, *run(trial, images, labels)) for trial in plan.others]
    rows, x_worst = made["autoattack"]
    examples = worst_examples(victim.model, images, labels, x_worst, rows, count=count, batch_size=clean.batch_size)
    return pd.concat(frames, ignore_index=True), examples


def _write(folder: Path, outcomes: pd.DataFrame, checks: Mapping[str, float], examples: Mapping[str, np.ndarray]) -> None:
    with atomic_path(folder / "checks.json") as path:
        path.write_text(json.dumps(dict(checks), indent=2) + "\n")
    with atomic_path(folder / "examples.npz") as path:
        np.savez(path, **dict[str, Any](examples))
    with atomic_path(folder / "outcomes.parquet") as path:
        outcomes.to_parquet(path, index=False, write_page_checksum=True)
