"""Attacks as items name them."""

from collections.abc import Mapping, Sequence
from functools import partial

from pipeline.attacks import ATTACKS
from pipeline.attacks.cw import cw
from pipeline.evaluation.robustness import Attack, Trial, trials
from pipeline.params.choices import AttackChoice


def named_attacks(choices: Mapping[str, AttackChoice]) -> dict[str, Attack]:
    """With their options."""
    return {name: partial(ATTACKS[choice.name], **choice.options) for name, choice in choices.items()}


def cw_trials(choice: AttackChoice, constants: Sequence[float], batch_size: int, images: int) -> list[Trial]:
    return trials({"cw": partial(cw, **choice.options)}, constants, batch_size, images)
