"""The end of a verdict: where the outcomes look like masked gradients, what an attacker would do next."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor, nn

from pipeline.attacks.apgd import Norm
from pipeline.evaluation.follow_up import further_attacks, warnings
from pipeline.evaluation.robustness import Trial, Victim, outcome_rows, progress
from pipeline.evaluation.worst_case import worst_case_of_all
from pipeline.jobs.trials import attacked_once
from pipeline.params.measured import FollowUp

ADAPTIVE = "adaptive"


class Next(NamedTuple):
    """What is tried where a check warns: settings of the attacks, and the norm and strength that they have."""

    settings: FollowUp
    norm: Norm
    eps: float


def followed_up(
    outcomes: pd.DataFrame,
    numbers: Mapping[str, float],
    model: nn.Module,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    then: Next,
    *,
    papers: pd.DataFrame | None,
    square_parts: Collection[str],
    eps: float,
    batch_size: int,
    seed: int,
    folder: Path,
) -> pd.DataFrame:
    """outcomes, with further parts of the adaptive suite where a check warns; the same where none does. numbers: of the checks;
    papers: outcomes of the papers' attacks on the same model, where they are not among `outcomes`; square_parts: as in `warnings`;
    eps: of the checks, in l-inf; folder: where what an attack has made is kept."""
    every = outcomes if papers is None else pd.concat([outcomes, papers[papers["image"] < len(images)]])
    warned = warnings(every, numbers, eps, square_parts)
    attacks = further_attacks(warned, model, images, norm=then.norm, **then.settings.model_dump())
    fewer = max(batch_size // then.settings.draws, 1)  # with all draws at once in memory
    trials = [Trial(f"{ADAPTIVE}/{name}", then.eps, run, fewer if name == "eot" else batch_size) for name, run in attacks.items()]
    if not trials:
        return outcomes
    print(f"signs of masked gradients: {', '.join(warned)}; tried next: {', '.join(attacks)}")
    frames = []
    with progress(len(images) * len(trials)) as bar:
        for trial in trials:
            made = attacked_once(victim, images, labels, trial, seed=seed, folder=folder, bar=bar)
            frames.append(outcome_rows(trial, images, labels, *made))
    rest = outcomes[outcomes["attack"] != ADAPTIVE]
    suite = pd.concat([rest[rest["attack"].str.startswith(f"{ADAPTIVE}/")], *frames])
    return pd.concat([rest, *frames, worst_case_of_all(ADAPTIVE, suite)], ignore_index=True)
