"""What is looked at before a model that others made is attacked: whether it is the model, and are the images, that were meant.
Takes seconds, and is told in words."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pipeline.attacks.objective import Objective, cross_entropy, margin
from pipeline.attacks.steps import evaluating, gradient
from pipeline.evaluation.robustness import predict_logits
from pipeline.models.normalize import Normalize

FEW = 64  # images for what needs a gradient or several forwards
SOME, FIRST = 256, 64  # images for accuracy by normalisation; on the first of them most normalisations are ruled out
GAIN = 2.0  # points that another normalisation must gain, and deviations of that; 33 models of the digits run gained 0 at most
BETTER = 10.0  # points that another order of the classes must gain
ABOVE_CHANCE = 20.0  # points
SUM, ROUNDING = 1e-3, 1e-3  # of probabilities; of logits, in parts of their spread
NUDGE = {"as they are": 1e-3, "off any grid": 1e-5}  # of a pixel in [0, 1]; 1e-3 is a quarter of what 8 bits can tell
Numbers = tuple[float, ...]
NORMALISATIONS: dict[str, tuple[Numbers, Numbers]] = {  # usual ones, by number of channels
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST's": ((0.1307,), (0.3081,)),
    "a mean and a std of 0.5": ((0.5,), (0.5,)),
    "a scale of 0 to 255": ((0.0,), (1 / 255,)),
}


class Finding(NamedTuple):
    """level: `ok`; `note`, which stands in the report; `stop`, with which a verdict would say nothing about the model. advice: what
    to do, where it stops."""

    name: str
    level: Literal["ok", "note", "stop"]
    text: str
    advice: str = ""


def look(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int, normalised: bool, training: bool) -> list[Finding]:
    """images: (N, C, H, W) in [0, 1], labels: (N,). normalised: whether the model was given a mean and a std; training: whether it
    came in train mode. Raises ValueError where the model cannot be judged at all."""
    logits = predict_logits(model, images, batch_size=batch_size)
    finite = logits.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"the model's answers to {int((~finite).sum())} of {len(images)} images are not finite numbers")
    right = 100 * (logits.argmax(1) == labels).double().mean().item()
    few = images[: min(FEW, batch_size)]
    return [
        outputs(logits),
        class_count(logits, labels),
        input_range(model, images[:SOME], labels[:SOME], batch_size=batch_size, normalised=normalised),
        class_order(logits, labels),
        above_chance(right, labels),
        eval_mode(model, few, training=training),
        *random_answers(model, few),
        *quantised(model, few),
        has_gradient(model, few, labels[: len(few)]),
    ]


def outputs(logits: Tensor) -> Finding:
    """logits: (N, K). Whether they are that, or probabilities, or log-probabilities."""
    low, high = logits.min().item(), logits.max().item()
    if low >= 0 and high <= 1 and ((logits.sum(1) - 1).abs() < SUM).all():
        text = "the model returns probabilities; their softmax hides the gradient"
        return Finding("outputs", "stop", text, "remove the final softmax so that it returns logits")
    if low >= 0 and high <= 1:
        return Finding("outputs", "note", f"All outputs lie in [0, 1] ({low:.3g} to {high:.3g}): sigmoids? Attacks need logits.")
    if high <= SUM and (logits.double().logsumexp(1).abs() < SUM).all():
        text = "The model answers with log-probabilities. Cross entropy and DLR have the same values on them as on logits."
        return Finding("outputs", "note", text)
    return Finding("outputs", "ok", f"Logits, from {low:.3g} to {high:.3g}.")


def class_count(logits: Tensor, labels: Tensor) -> Finding:
    """Raises ValueError where the labels have more classes than the model."""
    classes, most = logits.shape[1], int(labels.max()) + 1
    if most > classes:
        raise ValueError(f"the model has {classes} classes, the labels go up to {most - 1}: it needs {most} outputs or more")
    if most < classes:
        text = f"The model has {classes} classes, the labels go up to {most - 1} only."
        return Finding("classes", "note", text)
    return Finding("classes", "ok", f"{classes} classes, as the labels have.")


def input_range(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int, normalised: bool) -> Finding:
    """Whether the model gets more right, and with a lower loss, with other pixels than these: normalised ones, or, where a
    normalisation is given, plain ones. The gain counts by McNemar's test: of the images that one of both gets wrong."""

    def answers(shown: Tensor) -> tuple[Tensor, float]:
        logits = predict_logits(model, shown, batch_size=batch_size)
        return logits.argmax(1) == labels, F.cross_entropy(logits, labels).item()

    plain, loss = answers(images)
    share, best, found = (100 * plain.double().mean().item(),) * 2 + ("",)
    for name, shown in _other_ranges(model, images, normalised=normalised):
        first = predict_logits(model, shown[:FIRST], batch_size=batch_size).argmax(1) == labels[:FIRST]
        if first.sum() < plain[:FIRST].sum():
            continue
        right, other_loss = answers(shown)
        own, differ = 100 * right.double().mean().item(), int((right != plain).sum())
        gain = int(right.sum()) - int(plain.sum())
        clear = own > share + GAIN and gain >= GAIN * differ**0.5 and other_loss < loss and own > _chance(labels) + ABOVE_CHANCE
        if clear and own > best:
            best, found = own, name
    if not found:
        return Finding(
            "input", "ok", f"{share:.1f} % of {len(images)} images are right as they are, no more with another normalisation."
        )
    if normalised:
        advice = "the model normalises by itself, leave out mean and std"
    else:
        mean, std = _known(found, images)
        advice = f"give it --mean {_shown(mean)} --std {_shown(std)}, or what it was trained with (--mean 0 --std 1 if it was not)"
    text = f"the model is right on {share:.1f} % of {len(images)} images as they are and on {best:.1f} % {found}"
    return Finding("input", "stop", text, advice)


def _other_ranges(model: nn.Module, images: Tensor, *, normalised: bool) -> Iterator[tuple[str, Tensor]]:
    if normalised:
        inside = getattr(model, "normalize", None)
        if isinstance(inside, Normalize):  # undone beforehand
            yield "without its normalisation", images * inside.std + inside.mean
        else:
            yield "as they are", images
        return
    for name in ("their own mean and std", *NORMALISATIONS):
        mean, std = _known(f"normalised by {name}", images)
        if len(mean) in (1, images.shape[1]):
            shape = (1, -1, 1, 1)
            yield f"normalised by {name}", (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def _known(name: str, images: Tensor) -> tuple[Numbers, Numbers]:
    name = name.removeprefix("normalised by ")
    if name in NORMALISATIONS:
        return NORMALISATIONS[name]
    std, mean = torch.std_mean(images, dim=(0, 2, 3))
    return tuple(mean.tolist()), tuple(std.clamp(min=1e-6).tolist())


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def class_order(logits: Tensor, labels: Tensor) -> Finding:
    """Whether the model knows the classes under other numbers: by the best one-to-one matching of its answers with the labels. A
    bad model has no matching in which most of each class that moves go to one answer, and most of that answer are of the class: an
    untrained one gives one answer to several classes."""
    classes = max(logits.shape[1], int(labels.max()) + 1)
    pairs = torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes).cpu().numpy()
    rows, columns = linear_sum_assignment(pairs, maximize=True)
    counts, answers, moved = pairs.sum(1), pairs.sum(0), []
    for label, answer in zip(rows, columns, strict=True):
        if label != answer and counts[label] >= 3 and pairs[label, answer] > max(counts[label], answers[answer]) / 2:
            moved.append((int(label), int(answer)))
    as_is, matched = (100 * float(n) / len(labels) for n in (np.trace(pairs), pairs[rows, columns].sum()))
    if len(moved) >= 2 and matched > as_is + BETTER:
        some = ", ".join(f"{answer} for label {label}" for label, answer in moved[:6]) + (", ..." if len(moved) > 6 else "")
        shares = f"{as_is:.1f} % are right, {matched:.1f} % once its answers are renamed"
        return Finding(
            "class order",
            "stop",
            f"the model's classes are in another order than the labels': {shares} (it says {some})",
            "renumber the labels, or reorder the model's last layer",
        )
    return Finding(
        "class order", "ok", f"As the labels': no other order gets much more right than {as_is:.1f} % ({matched:.1f} %)."
    )


def above_chance(right: float, labels: Tensor) -> Finding:
    """right: clean accuracy, %."""
    chance = _chance(labels)
    if right <= chance + 200 * (chance / 100 * (1 - chance / 100) / len(labels)) ** 0.5:
        return Finding("clean accuracy", "note", f"{right:.1f} % without any attack, which is chance ({chance:.1f} %): untrained?")
    return Finding("clean accuracy", "ok", f"{right:.1f} % without any attack; chance is {chance:.1f} %.")


def _chance(labels: Tensor) -> float:
    return 100 * float(labels.bincount().max()) / len(labels)


@torch.no_grad()
def eval_mode(model: nn.Module, images: Tensor, *, training: bool) -> Finding:
    """Whether the prediction for an image depends on the other images of its batch, as batch norm's does in train mode."""
    with evaluating(model):
        stuck = [name for name, module in model.named_modules() if module.training]
        alone, together = torch.cat([model(x) for x in images.split(max(1, len(images) // 8))]), model(images)
        again = model(images)
    if stuck:
        return Finding("eval mode", "note", f"{', '.join(stuck[:3])} stays in train mode after model.eval().")
    spread = (together.amax(1) - together.amin(1)).clamp(min=1e-12)
    noise, apart = ((other - together).abs().amax(1) / spread for other in (again, alone))
    if (apart > ROUNDING + 3 * noise.max()).any():
        text = "The prediction for an image depends on the rest of its batch, as with batch norm in train mode."
        return Finding("eval mode", "note", text)
    return Finding("eval mode", "ok", "It came in train mode and is judged in eval mode." if training else "Yes.")


@torch.no_grad()
def random_answers(model: nn.Module, images: Tensor) -> list[Finding]:
    with evaluating(model):
        one, other = model(images), model(images)
    share = 100 * ((one - other).abs().amax(1) > 1e-4 * (one.amax(1) - one.amin(1))).double().mean().item()
    if share:
        text = f"The model answers {share:.0f} % of {len(images)} images differently in a second forward pass."
        return [Finding("random", "note", text)]
    return [Finding("random", "ok", "The same answer each time.")]


@torch.no_grad()
def quantised(model: nn.Module, images: Tensor) -> list[Finding]:
    """Whether a nudge to every pixel leaves the logits exactly as they were: of the images, which lie on a grid of 256 levels, and
    of images between its points, for coarser grids whose steps lie on it."""
    generator = torch.Generator(images.device).manual_seed(0)
    moved = (images + 0.05 * torch.rand(images.shape, generator=generator, device=images.device)).clamp(0.01, 0.99)
    with evaluating(model):
        constant = bool((model(images) == model(images)[:1]).all())
        shares = {}
        for (name, size), x in zip(NUDGE.items(), (images, moved), strict=True):
            nudge = size * (torch.randint(0, 2, x.shape, generator=generator, device=x.device) * 2 - 1)
            shares[name] = 100 * (model(x) == model((x + nudge).clamp(0, 1))).all(1).double().mean().item()
    kinds = sorted({type(module).__name__ for module in model.modules() if "quantized" in type(module).__module__})
    name, share = max(shares.items(), key=lambda pair: pair[1])
    if constant:
        return [Finding("quantised", "note", f"The answer to all of {len(images)} images is one and the same.")]
    if share > 50 or kinds:
        text = f"Of {len(images)} images {share:.0f} % have exactly the same logits when every pixel moves by {NUDGE[name]:g}"
        return [Finding("quantised", "note", text + (f"; layers {', '.join(kinds)}." if kinds else "."))]
    return [Finding("quantised", "ok", "The logits follow small changes of the pixels.")]


def has_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Finding:
    """Whether the difference of two logits, and the cross entropy, have a gradient at the pixels."""

    def zero(objective: Objective) -> float:
        with evaluating(model):
            grad, _ = gradient(model, images, labels, objective)
        return 100 * (grad == 0).flatten(1).all(1).double().mean().item()

    try:
        of_margin, of_cross_entropy = zero(margin), zero(cross_entropy)
    except (RuntimeError, NotImplementedError) as error:
        return Finding("gradient", "note", f"There is none: {' '.join(str(error).split())[:150]}")
    if of_margin:
        return Finding(
            "gradient", "note", f"The logits of {of_margin:.0f} % of {len(images)} images have no gradient at any pixel."
        )
    if of_cross_entropy:
        text = f"Cross entropy has no gradient at {of_cross_entropy:.0f} % of {len(images)} images, though the logits have one."
        return Finding("gradient", "note", text)
    return Finding("gradient", "ok", "There is one at every image.")
