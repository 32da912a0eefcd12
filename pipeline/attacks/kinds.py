"""What an attack can do, as its signature says. No list of names, so that a new attack is one new file and one lookup entry."""

import inspect
from collections.abc import Callable

from torch import Tensor


def stops_early(attack: Callable[..., Tensor]) -> bool:
    """Whether it takes `stop` (early stopping once an image is misclassified)."""
    return "stop" in inspect.signature(attack).parameters


def takes_targets(attack: Callable[..., Tensor]) -> bool:
    """Whether it is targeted: it takes `targets`, the number of wrong classes to try, and an `Aimed` objective."""
    return "targets" in inspect.signature(attack).parameters
