"""Attacks as items name them, and those that are done once and kept."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from pipeline.attacks import ATTACKS
from pipeline.attacks.cw import cw
from pipeline.evaluation.robustness import Attack, Trial, Victim, attacked, predict_over_ranks, trials
from pipeline.params.choices import AttackChoice
from pipeline.runtime.checkpoint import kept_state, save_state
from pipeline.runtime.distributed import check_same, is_main


def named_attacks(choices: Mapping[str, AttackChoice]) -> dict[str, Attack]:
    """With their options."""
    return {name: partial(ATTACKS[choice.name], **choice.options) for name, choice in choices.items()}


def cw_trials(choice: AttackChoice, constants: Sequence[float], batch_size: int, images: int) -> list[Trial]:
    return trials({"cw": partial(cw, **choice.options)}, constants, batch_size, images)


def attacked_once(
    victim: Victim, x: Tensor, y: Tensor, trial: Trial, *, seed: int, folder: Path, bar: "tqdm[NoReturn]"
) -> tuple[Tensor, Tensor]:
    """As `attacked`, with x_adv from the file in `folder` where the trial was made on these images before, else kept there."""
    path = folder / f"{trial.attack.replace('/', '-')}-{trial.eps!r}-{_digest(x, y)}.pt"
    kept = kept_state(path, x.device)
    check_same("what an attack is given and whether it was done before", f"{path.name} {kept is not None}")
    if kept is not None:
        bar.update(len(x))
        return kept["x_adv"], predict_over_ranks(victim.model, kept["x_adv"], batch_size=trial.batch_size)
    x_adv, prediction = attacked(victim, x, y, trial, seed=seed, bar=bar)
    if is_main():
        save_state(path, {"x_adv": x_adv.contiguous()})
    return x_adv, prediction


def _digest(x: Tensor, y: Tensor) -> str:
    """Of what an attack was given: on another device other images may have been left standing."""
    return hashlib.sha256(x.cpu().numpy().tobytes() + y.cpu().numpy().tobytes()).hexdigest()[:12]
