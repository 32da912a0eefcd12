"""Attacks by the name that params.yaml uses. Each takes (model, x, y, eps, *, options, generator, objective) and returns x_adv."""

from collections.abc import Callable

from torch import Tensor

from pipeline.attacks.bim import bim
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.mim import mim
from pipeline.attacks.pgd import pgd

ATTACKS: dict[str, Callable[..., Tensor]] = {"bim": bim, "fgsm": fgsm, "mim": mim, "pgd": pgd}
