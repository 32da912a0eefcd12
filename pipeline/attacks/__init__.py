"""Attacks by the name that params.yaml uses. Each takes (model, x, y, eps, *, options, generator, objective) and returns x_adv;
`cw` takes its constant c for eps, and no objective, as it descends one of its own."""

from collections.abc import Callable

from torch import Tensor

from pipeline.attacks.bim import bim
from pipeline.attacks.cw import cw
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.mim import mim
from pipeline.attacks.pgd import pgd

ATTACKS: dict[str, Callable[..., Tensor]] = {"bim": bim, "cw": cw, "fgsm": fgsm, "mim": mim, "pgd": pgd}
