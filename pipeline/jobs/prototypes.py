"""Part of stage attack: prediction by the nearest prototype and by the hyperspheres, and attacks on it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.evaluation.prototypes import (
    Member,
    Nearest,
    Prototypes,
    last_prototypes,
    membership_attacks,
    nearest_attacks,
    not_broken,
)
from pipeline.evaluation.robustness import Attack, Trial, Victim, attackable, outcome_rows, predict_over_ranks, progress
from pipeline.evaluation.worst_case import worst_case_in_sequence
from pipeline.jobs.trials import attacked_once
from pipeline.models.network import Network
from pipeline.models.replayed import replayed
from pipeline.params.items import AttackItem
from pipeline.params.measured import Adaptive
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path
from pipeline.training.criterion import Criterion


class Reading(NamedTuple):
    """A rule, the attacks on it, each on what those before it have left, and which images are not broken by (prediction, label)."""

    name: str
    victim: Victim
    attacks: Mapping[str, Attack]
    stands: Callable[[Tensor, Tensor], Tensor]


def judge_prototypes(
    item: AttackItem,
    seed: int,
    network: Network,
    criterion: Criterion,
    *,
    images: Tensor,
    labels: Tensor,
    unfinished: Path,
) -> dict[str, float]:
    """Writes prototypes.parquet into data/verdict/DATASET/METHOD/SEED, and returns figures; neither for a model without centres.
    Rows are as in outcomes.parquet, with the `layer` of the prototypes and whether the image is `accepted`, for each `reading`:
    `nearest/clean`, `nearest/logits` and so on, and `nearest`, the worst case. Settings are those of the adaptive attacks. A killed
    run goes on after its last attack, from the folder `unfinished`."""
    file = Path("data/verdict", item.dataset, item.method, str(seed), "prototypes.parquet")
    own = last_prototypes(dict(criterion.losses.items()), list(network.dims))
    if own is None:
        file.unlink(missing_ok=True)  # from other params
        return {}
    verdict = item.verdict
    frames = []
    for reading in readings(network, own, images, verdict.adaptive, item.compute.precision):
        trials = [Trial(f"{reading.name}/{name}", verdict.eps, run, item.batch_size) for name, run in reading.attacks.items()]
        rows = read_outcomes(reading, images, labels, trials, classes=network.classes, seed=seed, folder=unfinished)
        frames.append(rows.assign(layer=own.layer, accepted=rows["prediction"] < network.classes))
    outcomes = pd.concat(frames, ignore_index=True)
    if is_main():
        with atomic_path(file) as path:
            outcomes.to_parquet(path, index=False, write_page_checksum=True)
    return figures(outcomes)


def readings(network: Network, own: Prototypes, images: Tensor, settings: Adaptive, precision: str) -> list[Reading]:
    """The nearest prototype and, where there are radii, membership. Attacks on membership go to the model itself in fp32, not to
    its twin: they stop at the first image that is accepted, which may be at the very border."""
    budget = settings.model_dump()
    victim = attackable(Nearest(network, own), images, "bf16" if precision == "bf16" else "fp32")
    found = [Reading("nearest", victim, nearest_attacks(network.classes, **budget), torch.eq)]
    if own.radii is not None:
        member: nn.Module = replayed(Member(network, own), images.device)
        stands = partial(not_broken, classes=network.classes)
        found.append(Reading("membership", Victim(member, member), membership_attacks(own, **budget), stands))
    return found


def read_outcomes(
    reading: Reading, images: Tensor, labels: Tensor, trials: list[Trial], *, classes: int, seed: int, folder: Path
) -> pd.DataFrame:
    """Rows of the clean images, of each trial on those that it was made on, and the worst case of each image. A rule that accepts
    no clean image is not attacked."""
    name, victim, _, stands = reading
    clean = Trial(f"{name}/clean", 0.0, lambda *_: images, trials[0].batch_size)
    prediction = predict_over_ranks(victim.model, images, batch_size=clean.batch_size)
    rows = outcome_rows(clean, images, labels, images, prediction)
    if bool((prediction == classes).all()):
        return rows
    with progress(len(images) * len(trials)) as bar:

        def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            made = attacked_once(victim, x, y, trial, seed=seed, folder=folder, bar=bar)
            bar.update(len(images) - len(x))  # those that need no attack any more
            return made

        worst, _ = worst_case_in_sequence(name, images, labels, prediction, trials, run, stands=stands)
        bar.update(len(images) * len(trials) - bar.n)
    return pd.concat([rows, worst], ignore_index=True)


def figures(outcomes: pd.DataFrame) -> dict[str, float]:
    """In %, for the log: `nearest/clean` and `nearest/attacked`, what is right by the nearest prototype; `membership/coverage`,
    what is accepted of the clean images, and `membership/broken`, what is wrong and accepted under attack."""
    mean = {str(attack): 100 * rows for attack, rows in outcomes.groupby("attack")[["correct", "accepted"]].mean().iterrows()}
    found = {"nearest/clean": mean["nearest/clean"]["correct"], "nearest/attacked": mean["nearest"]["correct"]}
    if "membership/clean" in mean:
        found["membership/coverage"] = mean["membership/clean"]["accepted"]
    if "membership" in mean:
        found["membership/broken"] = mean["membership"]["accepted"] - mean["membership"]["correct"]
    return {name: float(value) for name, value in found.items()}
