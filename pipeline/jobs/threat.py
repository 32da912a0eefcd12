"""What a given model is attacked with: a norm, an eps, and the attacks of params.yaml at them."""

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from torch import Tensor, nn

from pipeline.attacks.apgd import Norm
from pipeline.attacks.kinds import stops_early
from pipeline.attacks.pgd import pgd
from pipeline.evaluation.robustness import Trial, trials
from pipeline.jobs.follow_up import Next
from pipeline.jobs.trials import named_attacks
from pipeline.jobs.verdict import ADAPTIVE, Plan, adaptive_attacks, autoattack_parts
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import Params, load_params
from pipeline.training.criterion import Criterion

PARAMS = (Path(__file__).parents[2] / "params.yaml", Path(__file__).parents[1] / "params/params.yaml")  # checkout, installed


class Threat(NamedTuple):
    """autoattack: the name of its version in `params`."""

    norm: Norm
    eps: float
    autoattack: str
    params: Params

    def linf(self, x: Tensor) -> float:
        """The largest l-inf ball inside: a corner of it has length eps. x: an image (C, H, W)."""
        return self.eps if self.norm == "linf" else self.eps / math.sqrt(x.numel())


def threat_of(norm: str, eps: float | str, autoattack: str, params: str | Path | None) -> Threat:
    """params: a params.yaml whose attacks and data sets are meant; None: that of this project. Raises ValueError in one line."""
    file = next(path for path in PARAMS if path.is_file()) if params is None else Path(params)
    loaded = load_params(file, LOOKUPS)
    norms = {name: name for name in get_args(Norm)}
    if norm not in norms:
        raise ValueError(f"norm must be one of {', '.join(norms)}, got {norm!r}")
    if autoattack not in loaded.autoattack:
        raise ValueError(f"autoattack must be one of {', '.join(loaded.autoattack)}, got {autoattack!r}")
    strength = eps_of(eps)
    if norm == "linf" and strength >= 1:
        raise ValueError(f"eps must be below 1 in l-inf, since pixels lie in [0, 1], got {strength:g}; 8 of 255 is 8/255")
    return Threat(norms[norm], strength, autoattack, loaded)


def eps_of(eps: float | str) -> float:
    """0.03, "0.03" or "8/255"."""
    try:
        value = float(Fraction(eps.replace(" ", ""))) if isinstance(eps, str) else float(eps)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps must be a number above 0, as 0.03 or 8/255, got {eps!r}") from None
    if not (0 < value < math.inf):
        raise ValueError(f"eps must be a number above 0, as 0.03 or 8/255, got {eps!r}")
    return value


def plan_of(
    threat: Threat, criterion: Criterion, centres: Mapping[str, Tensor], image: Tensor, *, classes: int, batch_size: int
) -> Plan:
    """In l-inf what the pipeline runs: AutoAttack, adaptive attacks, the papers' attacks at half the eps and at all of it, PGD with
    a growing number of steps and with no bound. In l2, which the papers' attacks do not know, AutoAttack, adaptive attacks and PGD
    with no bound. image: (C, H, W)."""
    eps, params, norm = threat.eps, threat.params, threat.norm
    parts = params.autoattack[threat.autoattack]
    autoattack = autoattack_parts(parts, eps, norm, classes=classes, batch_size=batch_size, name="autoattack")
    knowing = adaptive_attacks(params.verdict.adaptive, criterion, centres, classes, norm)
    adaptive = [Trial(f"{ADAPTIVE}/{name}", eps, attack, batch_size) for name, attack in knowing.items()]
    step, most = params.attacks["pgd"].options["rel_step_size"], max(params.verdict.steps)
    whole = partial(_any_image, steps=most, rel_step_size=step)
    bound = 1.0 if norm == "linf" else math.sqrt(image.numel())  # as the tables call it: the image range has this radius
    others = [Trial("unbounded", bound, whole, batch_size)]
    if norm == "linf":
        steps = {f"steps/{n}": partial(pgd, steps=n, rel_step_size=step) for n in params.verdict.steps}
        named = named_attacks({name: params.attacks[name] for name in params.run.attacks})
        papers = {name: partial(attack, stop="sample") if stops_early(attack) else attack for name, attack in named.items()}
        others = [*trials(papers, [eps / 2, eps], batch_size), *trials(steps, [eps], batch_size), *others]
    return Plan({"autoattack": autoattack}, adaptive, others, then=Next(params.verdict.follow_up, norm, eps))


def _any_image(model: nn.Module, x: Tensor, y: Tensor, eps: float, **options: object) -> Tensor:
    """PGD with no bound but the image range, whatever eps is called."""
    return pgd(model, x, y, 1.0, stop="sample", **options)  # type: ignore[arg-type]
