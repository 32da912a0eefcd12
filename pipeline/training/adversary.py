"""Adversarial training: makes the batch that a training step uses (hcp eq. 5; pcl section 6.1)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective
from pipeline.attacks.pgd import pgd, random_start
from pipeline.attacks.steps import evaluating
from pipeline.runtime.distributed import gather_rows, own_part, part_sizes, world_size
from pipeline.training.trades import divergence

Labels = Literal["true", "predicted", "soft"]
Adversary = Callable[[nn.Module, Tensor, Tensor, Generator], tuple[Tensor, Tensor, Tensor]]
"""(model, x, y, generator) -> images (B', C, H, W), labels (B',) and the weight of each in the loss (B',), which sum to 1."""


def clean_only(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """No adversary."""
    return x, y, x.new_full((len(x),), 1 / len(x))


def mixed_with_attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: Generator,
    *,
    attack: Callable[..., Tensor],
    eps_range: tuple[float, float],
    clean_share: float,
    labels: Labels,
) -> tuple[Tensor, Tensor, Tensor]:
    """The clean batch with weight clean_share (lambda) and its adversarial copy with the rest, for one forward pass. The attack
    runs in eval mode on the present weights, with one eps a batch, drawn from U(eps_range). With clean_share 0 only the
    adversarial copy is returned.

    labels: what the attack moves away from. `true`: the true labels. `predicted`: the model's prediction, which keeps a one-step
    attack from encoding the true label in the image ("label leaking", Kurakin et al., arXiv:1611.01236, section 4.1). `soft`: the
    predicted distribution; the attack, which must be PGD, maximises the divergence from it and starts at a small random distance,
    since the gradient at the image itself is zero (TRADES, arXiv:1901.08573, algorithm 1).

    Every rank gets the same batch and returns the same result.
    """
    low, high = eps_range
    eps = low + (high - low) * torch.rand(1, generator=generator, device=x.device).item()
    own = own_part(len(x))
    if labels == "soft":
        attack = partial(attack, objective=divergence_from(_logits(model, x[own])), start="gaussian")
    target = gather_rows(_logits(model, x[own]).argmax(1), part_sizes(len(x))) if labels == "predicted" else y
    x_adv = attacked_in_parts(model, x, target, eps, generator=generator, attack=attack)
    weight = x.new_full((len(x),), 1 / len(x))
    if clean_share == 0:
        return x_adv, y, weight
    return torch.cat([x, x_adv]), torch.cat([y, y]), torch.cat([weight * clean_share, weight * (1 - clean_share)])


def attacked_in_parts(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: Generator, attack: Callable[..., Tensor]
) -> Tensor:
    """attack(model, x, y, eps, generator=generator), shared by the ranks: each attacks its part of the batch, and all get the whole
    result. The generator ends in the same state on every rank. PGD has the same random start as in one process; other random
    attacks, such as Square, draw other numbers than in one process."""
    if world_size() == 1:
        return attack(model, x, y, eps, generator=generator)
    own = own_part(len(x))
    if isinstance(attack, partial) and attack.func is pgd:
        start = random_start(x, eps, attack.keywords.get("start", "uniform"), generator)  # of the whole batch
        attack = partial(attack, start=start[own])
    draws = Generator(x.device)
    draws.set_state(generator.get_state())
    return gather_rows(attack(model, x[own], y[own], eps, generator=draws), part_sizes(len(x)))


def divergence_from(clean: Tensor) -> Objective:
    """KL(p(clean) || p(x)); the label is not used. clean: (B, K) logits of the clean images; the attack must take all of them in
    one batch."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x)
        return divergence(clean, logits), logits

    return objective


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with evaluating(model):
        logits: Tensor = model(x)
    return logits
