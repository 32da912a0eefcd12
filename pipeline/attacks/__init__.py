"""Attacks by the name that params.yaml uses. Each takes (model, x, y, eps, *, options, generator, objective, batch_size, done) and
returns x_adv. What is special about an attack is in its own signature, see pipeline/attacks/kinds.py."""

from collections.abc import Callable

from torch import Tensor

from pipeline.attacks.apgd import apgd, apgd_targeted
from pipeline.attacks.bim import bim
from pipeline.attacks.cw import cw
from pipeline.attacks.fab import fab
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.mim import mim
from pipeline.attacks.pgd import pgd
from pipeline.attacks.spsa import spsa
from pipeline.attacks.square import square

ATTACKS: dict[str, Callable[..., Tensor]] = {
    "apgd": apgd,
    "apgd_targeted": apgd_targeted,
    "bim": bim,
    "cw": cw,
    "fab": fab,
    "fgsm": fgsm,
    "mim": mim,
    "pgd": pgd,
    "spsa": spsa,
    "square": square,
}
