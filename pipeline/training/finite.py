"""Notices, without waiting for the device at every step, that a loss has left the finite numbers, and says which."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class DivergedError(ValueError):
    """A loss became infinite or not a number. The message names the term, the step and what was seen just before."""


class FiniteWatch:
    """Fed with the loss terms (T,) of every step; remembers on the device the first step that is not finite and the one before."""

    def __init__(self, terms: list[str], device: torch.device) -> None:
        self.terms = terms
        self.before = torch.full((len(terms),), torch.nan, device=device)
        self.first_bad = torch.zeros(len(terms), device=device)
        self.good_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.good = torch.ones((), dtype=torch.bool, device=device)

    def update(self, values: Tensor) -> None:
        was_good = self.good
        self.good = was_good & values.isfinite().all()
        self.before = torch.where(self.good, values, self.before)
        self.first_bad = torch.where(was_good & ~self.good, values, self.first_bad)
        self.good_steps = self.good_steps + self.good

    def check(self, where: str) -> None:
        """Raises DivergedError if any step so far was not finite. Waits for the device."""
        if self.good:
            return
        bad = [i for i, value in enumerate(self.first_bad.tolist()) if not torch.isfinite(torch.tensor(value))]
        before = self.before.tolist()
        ran_away = max(bad, key=lambda i: abs(before[i]))  # when the weights are gone all terms are bad: name the largest
        seen = ", ".join(f"{term} {value:.4g}" for term, value in zip(self.terms, before, strict=True))
        raise DivergedError(
            f"{where}: the loss term {self.terms[ran_away]} became inf or NaN at step {int(self.good_steps) + 1}"
            f"{f' (one step before: {seen})' if self.good_steps else ''}. "
            "Lower the learning rates of the method or the weight of the term."
        )


def check_parameters(modules: Iterable[nn.Module], where: str) -> None:
    """The last step has no loss after it: raises DivergedError if it left a parameter that is not finite."""
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.isfinite().all():
                raise DivergedError(f"{where}: parameter {name} became inf or NaN. Lower the learning rates of the method.")
