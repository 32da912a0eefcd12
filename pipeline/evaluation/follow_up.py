"""What an attacker does next where gradients look masked (Athalye et al., arXiv:1802.00420; Tramer et al., arXiv:2002.08347)."""

from collections.abc import Collection, Mapping
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.attacks.apgd import Norm, apgd
from pipeline.attacks.objective import Objective, expected
from pipeline.attacks.pgd import pgd
from pipeline.attacks.spsa import spsa
from pipeline.attacks.square import square
from pipeline.attacks.straight_through import StraightThrough
from pipeline.evaluation.masking import rescaled
from pipeline.evaluation.robustness import Attack
from pipeline.evaluation.signs import masking_checks

PROBE = 8  # images by whose forward blocking parts are found
STEP, RADIUS = 0.3, 0.5  # of SPSA, in parts of eps: beyond what coarse rounding hides


def warnings(outcomes: pd.DataFrame, numbers: Mapping[str, float], eps: float, square_parts: Collection[str]) -> list[str]:
    """Names of the checks that warn, of those that can be made on one model alone. outcomes: of all attacks, by image; numbers: of
    `masking_numbers`; square_parts: the parts of AutoAttack that go by scores alone, as outcomes call them."""
    count = int(outcomes["image"].nunique())
    accuracy: dict[str, dict[float, float]] = {}
    cells = outcomes.groupby(["attack", "eps"], sort=False)["correct"].mean().reset_index()
    for attack, strength, right in cells.itertuples(index=False, name=None):
        accuracy.setdefault(attack, {})[strength] = 100 * right
    broken = [100 * float((~outcomes.loc[outcomes["attack"] == part, "correct"]).sum()) / count for part in square_parts]
    checks = masking_checks(accuracy, eps, {}, max(broken) if broken else None, numbers, count)
    return [check.name for check in checks if not check.passed]


def further_attacks(
    warned: Collection[str], model: nn.Module, x: Tensor, *, queries: int, draws: int, steps: int, norm: Norm = "linf"
) -> dict[str, Attack]:
    """By name; none where no check has `warned`. x: some images (B, C, H, W). queries: of each attack without gradients; draws:
    forward passes averaged (EOT) if the model is stochastic; steps: along a gradient."""
    found: dict[str, Attack] = {}
    by_chance, others = "random forward" in warned, set(warned) - {"random forward"}
    objective: Objective = expected(rescaled, draws) if by_chance else rescaled
    climb = partial(apgd, steps=steps, restarts=1, norm=norm, objective=objective)
    if by_chance:
        found["eot"] = partial(pgd, steps=steps, rel_step_size=0.1, objective=objective) if norm == "linf" else climb
    if {"saturated logits", "zero gradient"} & others:
        found["rescaled"] = climb
    if "probabilities" in others:
        found["log"] = on_view(Logarithm, climb)
    if others:
        view = StraightThrough(model, x[:PROBE])
        if view.blocked:
            found["bpda"] = made_on(view, climb)
        if norm == "linf":
            found["spsa"] = partial(spsa, queries=queries, steps=steps, rel_step_size=STEP, rel_radius=RADIUS)
    if warned:
        found["square"] = partial(square, queries=queries, p_init=0.8, norm=norm)
    return found


class Logarithm(nn.Module):
    """The logits that probabilities came from, up to a constant of each image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        p: Tensor = self.model(x)
        return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def made_on(other: nn.Module, attack: Attack) -> Attack:
    """The attack on `other`, whatever model it is given: a view of that model, or another one, whose images are shown to it."""

    def run(_: nn.Module, x: Tensor, y: Tensor, eps: float, **options: object) -> Tensor:
        return attack(other, x, y, eps, **options)

    return run


def on_view(view: type[Logarithm], attack: Attack) -> Attack:
    """The attack on a view of the model that it is given."""

    def run(model: nn.Module, x: Tensor, y: Tensor, eps: float, **options: object) -> Tensor:
        return attack(view(model), x, y, eps, **options)

    return run
