"""What a model itself says of masked gradients (Athalye et al., arXiv:1802.00420, section 3.1; Carlini et al., arXiv:1902.06705,
section 4): plain numbers, which signs.py judges."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy
from pipeline.attacks.pgd import pgd
from pipeline.attacks.steps import evaluating, gradient
from pipeline.evaluation.robustness import predict
from pipeline.runtime.distributed import map_over_ranks

FLAT_RATIO = 0.5  # of the largest change in a random direction; along the gradient's sign a smooth loss rises several times that
NOTICED = 0.01  # a random direction changes the loss if by this share of it: above the rounding of float32 logits
RANDOM = 1e-4  # of the spread of the logits: the rounding of float32, which may fall differently on a GPU each time
DIRECTIONS = 10
SPREAD = 10.0  # of rescaled logits: from about 17 on float32 rounds the probability of a label to 1
STEPS, REL_STEP_SIZE = 20, 0.1  # of PGD
SUM = 1e-3  # of probabilities, from 1


def masking_numbers(
    model: nn.Module, images: Tensor, labels: Tensor, eps: float, *, batch_size: int, seed: int
) -> dict[str, float]:
    """images: (N, C, H, W) in [0, 1], labels: (N,) -> `images`, N, and % of them: `zero_gradient`, `flat_gradient`,
    `random_forward`, `probabilities` and `log_probabilities` as the functions below, and what is right under l-inf PGD from one
    random point on `cross_entropy` and on cross entropy of `rescaled` logits. The ranks share out the batches."""
    xs, ys = images.split(batch_size), labels.split(batch_size)

    def work(number: int) -> tuple[Tensor, ...]:
        x, y, generator = xs[number], ys[number], Generator(images.device)
        masks = (
            zero_gradient(model, x, y),
            flat_gradient(model, x, y, eps, generator=generator.manual_seed(seed + number)),
            right_under_pgd(model, x, y, eps, cross_entropy, generator=generator.manual_seed(seed + number)),
            right_under_pgd(model, x, y, eps, rescaled, generator=generator.manual_seed(seed + number)),
            random_forward(model, x),
            *as_probabilities(model, x),
        )
        return tuple(mask.long() for mask in masks)

    names = ("zero_gradient", "flat_gradient", "cross_entropy", "rescaled", "random_forward", "probabilities", "log_probabilities")
    found = map_over_ranks(work, [len(x) for x in xs], (labels[:0],) * len(names))
    return {"images": len(images), **{name: 100 * int(n.sum()) / len(images) for name, n in zip(names, found, strict=True)}}


# On one batch: x (B, C, H, W) in [0, 1], y (B,) -> (B,) bool.


def zero_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Whether cross entropy, as the attacks compute it, has no gradient at any pixel."""
    with evaluating(model):
        grad, _ = gradient(model, x, y, cross_entropy)
    return (grad == 0).flatten(1).all(1)


@torch.no_grad()
def flat_gradient(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: Generator) -> Tensor:
    """Whether the loss rises by less along eps times the gradient's sign than half of the most that one of ten random signs changes
    it by. All within the image range."""
    with evaluating(model):
        start = _exact_loss(model, x, y)
        sign = gradient(model, x, y, cross_entropy)[0].sign()
        rise = _exact_loss(model, (x + eps * sign).clamp(0, 1), y) - start
        change = torch.zeros_like(start)
        for _ in range(DIRECTIONS):
            sign = torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1
            change = torch.maximum(change, (_exact_loss(model, (x + eps * sign).clamp(0, 1), y) - start).abs())
    return (rise < FLAT_RATIO * change) & (change > NOTICED * start)


def _exact_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy (B,) as log(1 + exp(-margin)) in float64: softmax in float32 makes it exactly 0 from a margin of 17 on."""
    logits = model(x).double()
    others = logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)  # (B,)
    return F.softplus(others - logits.gather(1, y[:, None])[:, 0])


@torch.no_grad()
def right_under_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, objective: Objective, *, generator: Generator) -> Tensor:
    """Whether the model is right at every step of l-inf PGD on the objective."""
    attack = partial(pgd, steps=STEPS, rel_step_size=REL_STEP_SIZE, stop="sample")
    x_adv = attack(model, x, y, eps, generator=generator, objective=objective)
    return predict(model, x_adv, batch_size=len(x)) == y


def rescaled(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """An objective: cross entropy of logits whose largest is at most SPREAD above their smallest; those further apart are divided
    by what it takes, which counts as a constant. Against logits so large that the softmax has no gradient left."""
    logits = model(x)
    width = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
    return F.cross_entropy(logits / (width / SPREAD).clamp(min=1), y, reduction="none"), logits


@torch.no_grad()
def random_forward(model: nn.Module, x: Tensor) -> Tensor:
    """Whether two forwards of the same batch in eval mode give different logits."""
    with evaluating(model):
        one, other = model(x), model(x)
    differs: Tensor = (one - other).abs().amax(1) > RANDOM * (one.amax(1) - one.amin(1))
    return differs


@torch.no_grad()
def as_probabilities(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the outputs are probabilities, which AutoAttack's authors warn of (none below 0, 1 in sum), and whether they are
    logarithms of some. Those are logits shifted: cross entropy and DLR are the same on both, so they are no sign of masking."""
    with evaluating(model):
        outputs = model(x).double()
    sums, logs = (outputs.sum(1) - 1).abs() < SUM, outputs.logsumexp(1).abs() < SUM
    return (outputs >= 0).all(1) & sums, (outputs <= SUM).all(1) & logs
