"""Signs that robust accuracy comes from masked gradients (Athalye et al., arXiv:1802.00420, section 3.1; Carlini et al.,
arXiv:1902.06705, section 4), each a measured number with a threshold, of one model. Plain numbers, no torch: stage attack decides
by them what else to try, and the tables show them."""

from collections.abc import Mapping
from itertools import combinations
from math import sqrt
from typing import NamedTuple

SIBLING = "adaptive/sibling"  # images made on the undefended model of the same data set and seed
SINGLE_STEP, ITERATIVE = "fgsm", ("bim", "mim", "pgd")  # on cross entropy, as in the papers
SHARE, POINTS = "% of images", "points"

DISAGREE = 0.05  # share of the images on which two attacks of equal strength differ at most; see `tolerance`
DEVIATIONS = 2.0
UNBOUNDED = 1.0  # % of images: one attack may get stuck on an image or two; behind masked gradients it does on tens of percent
MISSED = 0.5  # % of images; AutoAttack's authors warn from 0.2 on, after 100 steps; honest models had 1.1 after 20, 4 of 360
ZERO = 1.0  # % of images: where the model is differentiable, an exact zero in every pixel is a rare accident (all ReLUs shut)
NEAR = 2  # images
FLAT = 5.0  # % of images: a few lie where the loss bends within eps


class Check(NamedTuple):
    """`passed` is value <= threshold; `near`: it would be the other way with NEAR images more or fewer; `what` says how the value
    comes about and what a high one means."""

    name: str
    value: float
    unit: str
    threshold: float
    passed: bool
    what: str
    near: bool = False


def masking_checks(
    accuracy: Mapping[str, Mapping[float, float]],
    headline_eps: float,
    transferred: Mapping[str, float],
    square_broken: float | None,
    measured: Mapping[str, float],
    images: int,
    *,
    transfer_eps: float | None = None,
) -> list[Check]:
    """Those of the eleven checks whose numbers are there. All numbers in % of the test images, `images` many.

    accuracy: {attack: {eps: accuracy}} of `clean` (eps 0), fgsm, bim, mim, pgd, steps/N (PGD with N steps), `unbounded` and
    SIBLING; other attacks play no part. transferred: {source: accuracy under the strongest of fgsm, bim, mim and pgd made on that
    other model}, at transfer_eps, which is headline_eps unless given.
    square_broken: what Square broke that AutoAttack's three gradient attacks had left. measured: as in checks.json.
    """
    here = _at(accuracy, headline_eps)
    many = [here[name] for name in ITERATIVE if name in here]
    there = here if transfer_eps is None else _at(accuracy, transfer_eps)
    foreign = [(min(transferred.values()), own) for own in _white_box(there) if transferred]
    foreign += [(here[SIBLING], own) for own in _white_box(here) if SIBLING in here]
    by_eps = [{**accuracy.get("clean", {}), **accuracy[name]} for name in ITERATIVE if name in accuracy]
    by_steps = {int(name.removeprefix("steps/")): value for name, value in here.items() if name.startswith("steps/")}
    checks = []
    if SINGLE_STEP in here and many:
        checks.append(single_step(here[SINGLE_STEP], min(many), images))
    if foreign:
        checks.append(max((black_box(other, own, images) for other, own in foreign), key=_worst))
    if square_broken is not None:
        checks.append(gradient_free(square_broken, images))
    if "unbounded" in accuracy:
        checks.append(unbounded(min(accuracy["unbounded"].values())))
    if by_eps and min(map(len, by_eps)) > 1:
        checks.append(max((larger_eps(values, images) for values in by_eps), key=_worst))
    if len(by_steps) > 1:
        checks.append(more_steps(by_steps, images))
    if "zero_gradient" in measured:
        checks.append(zero_gradient(measured["zero_gradient"]))
    if "flat_gradient" in measured:
        checks.append(flat_gradient(measured["flat_gradient"]))
    if {"cross_entropy", "rescaled"} <= set(measured):
        checks.append(saturated_logits(measured["cross_entropy"], measured["rescaled"], images))
    if "random_forward" in measured:
        checks.append(random_forward(measured["random_forward"]))
    if "probabilities" in measured:
        checks.append(probabilities(measured["probabilities"]))
    return [check._replace(near=_is_near(check, images)) for check in checks]


def _white_box(here: Mapping[str, float]) -> list[float]:
    """The strongest of the papers' attacks; where none was run, of PGD by numbers of steps. One value or none."""
    papers = [here[name] for name in (SINGLE_STEP, *ITERATIVE) if name in here]
    found = papers or [value for name, value in here.items() if name.startswith("steps/")]
    return [min(found)] if found else []


def _is_near(check: Check, images: int) -> bool:
    """A value of 0 or less is no sign at all, however low the threshold."""
    return check.value > 0 and abs(check.value - check.threshold) <= 100 * NEAR / images + 1e-9


def _at(accuracy: Mapping[str, Mapping[float, float]], strength: float) -> dict[str, float]:
    return {name: value for name, by_eps in accuracy.items() for eps, value in by_eps.items() if abs(eps - strength) < 1e-6}


def tolerance(one: float, other: float, images: int) -> float:
    """Points by which two accuracies (%) on the same `images` may differ by chance, when the attacks are equally strong.

    Only images that one attack breaks and the other does not count (McNemar): of n such images the difference has deviation
    sqrt(n) images. Two accuracies do not tell n: it is taken as a twentieth of the images, and as no more than there can be where
    nearly all or nearly none are broken. Two deviations: one false alarm in 44 at equal strength, hardly any where the attack that
    should be stronger is.
    """
    if images < 1 or not (0 <= one <= 100 and 0 <= other <= 100):
        raise ValueError(f"accuracies must be from 0 to 100 and images at least 1, got {one}, {other} and {images}")
    share = min(DISAGREE, (one + other) / 100, 2 - (one + other) / 100)
    return 100 * DEVIATIONS * sqrt(share / images)


# Of accuracies (%) that attacks have left, on the same `images` and at the same eps unless said. In the first two the attacks are
# alike on both sides, on cross entropy: an adaptive attack with another objective would hide that this gradient misleads.


def single_step(fgsm: float, iterative: float, images: int) -> Check:
    """iterative: of the best attack with many steps."""
    what = (
        "Accuracy under the best of BIM, MIM and PGD less that under FGSM. High: one step along the gradient breaks more than many"
    )
    return _weaker("single step", iterative, fgsm, images, what)


def black_box(transferred: float, white_box: float, images: int) -> Check:
    """transferred: of the images made on another model, the worst; white_box: of those made on the model."""
    what = "Accuracy under the paper's attacks made on the model less that under those made on another. High: transfer breaks more"
    return _weaker("black box", white_box, transferred, images, what)


def gradient_free(broken: float, images: int) -> Check:
    """broken: by Square, of all images, among those that APGD-CE, APGD-T and FAB-T had left. More than none by
    construction: what is allowed has two deviations of the count on top."""
    what = "Images that Square breaks but APGD-CE, APGD-T and FAB-T did not. High: the gradient attacks miss them"
    return _check("gradient free", broken, SHARE, MISSED + 100 * DEVIATIONS * sqrt(MISSED / 100 / images), what)


def unbounded(accuracy: float) -> Check:
    """accuracy: at eps 1, where every image is in reach."""
    what = "Accuracy under PGD with eps 1. High: images survive although any image is allowed, so the attack fails on the model"
    return _check("unbounded", accuracy, SHARE, UNBOUNDED, what)


def larger_eps(accuracies: Mapping[float, float], images: int) -> Check:
    """accuracies: of one attack by eps."""
    what = "Largest rise of accuracy under BIM, MIM or PGD from one eps to a larger. High: the larger ball breaks fewer images"
    return _rise("larger eps", accuracies, images, what)


def more_steps(accuracies: Mapping[int, float], images: int) -> Check:
    """accuracies: of one attack by its number of steps."""
    what = "Largest rise of accuracy under PGD from one number of steps to a larger. High: steps along the gradient lead astray"
    return _rise("more steps", accuracies, images, what)


# Of what pipeline/evaluation/masking.py measured on the model.


def zero_gradient(share: float) -> Check:
    what = "Images at which cross entropy has no gradient at any pixel. High: there is nothing to follow"
    return _check("zero gradient", share, SHARE, ZERO, what)


def flat_gradient(share: float) -> Check:
    what = "Images whose loss rises along the gradient by less than half of what random directions change it by. High: it misleads"
    return _check("flat gradient", share, SHARE, FLAT, what)


def saturated_logits(cross_entropy: float, rescaled: float, images: int) -> Check:
    """Of accuracies (%) under the same attack on cross entropy and on that of rescaled logits."""
    what = "Accuracy under PGD on cross entropy less that on rescaled logits. High: large logits hide the gradient"
    return _weaker("saturated logits", cross_entropy, rescaled, images, what)


def random_forward(share: float) -> Check:
    what = "Images with different logits in a second forward pass. High: the gradient changes from one forward to the next"
    return _check("random forward", share, SHARE, 0.0, what)


def probabilities(share: float) -> Check:
    """A softmax at the end hides the gradient of what it is sure of, and attacks take a second one."""
    what = "Images whose outputs are probabilities, none below 0 and 1 in sum. High: attacks need the logits before that softmax"
    return _check("probabilities", share, SHARE, ZERO, what)


def _check(name: str, value: float, unit: str, threshold: float, what: str) -> Check:
    return Check(name, value, unit, threshold, value <= threshold, what)


def _weaker(name: str, should_be_lower: float, should_be_higher: float, images: int, what: str) -> Check:
    allowed = tolerance(should_be_lower, should_be_higher, images)
    return _check(name, should_be_lower - should_be_higher, POINTS, allowed, what)


def _rise(name: str, accuracies: Mapping[float, float] | Mapping[int, float], images: int, what: str) -> Check:
    """The pair in which the later one is most above the earlier one, by the order of the keys; one that fails goes first."""
    if len(accuracies) < 2:
        raise ValueError(f"{name} needs at least 2 accuracies, got {len(accuracies)}")
    ordered = [accuracy for _, accuracy in sorted(accuracies.items())]
    return max((_weaker(name, later, earlier, images, what) for earlier, later in combinations(ordered, 2)), key=_worst)


def _worst(check: Check) -> tuple[bool, float]:
    """A tolerance depends on the accuracies: 0, and passed, where both are 0, and that must not hide another pair."""
    return not check.passed, check.value
