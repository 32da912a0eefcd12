"""The masking checks on numbers made by hand."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest

from pipeline.evaluation import signs
from pipeline.evaluation.signs import Check, masking_checks

HONEST: dict[str, Any] = {
    "accuracy": {
        "clean": {0.0: 98.0},
        "fgsm": {0.1: 70.0, 0.2: 40.0},
        "bim": {0.1: 66.0, 0.2: 31.0},
        "pgd": {0.1: 65.0, 0.2: 30.0, 1.0: 0.0},
        "cw": {0.01: 99.0, 0.2: 10.0},
        "noise_sample": {5.0: 0.0},
        "adaptive_pgd": {0.2: 25.0},
        "autoattack": {0.2: 20.0},
        "adaptive/features": {0.2: 22.0},
        "steps/1": {0.2: 60.0},
        "steps/10": {0.2: 30.0},
        "steps/100": {0.2: 28.0},
        "unbounded": {1.0: 0.0},
    },
    "headline_eps": 0.2,
    "transferred": {"vgg": 80.0, "madry": 60.0},
    "square_broken": 0.0,
    "measured": {
        "zero_gradient": 0.0,
        "flat_gradient": 1.0,
        "cross_entropy": 30.0,
        "rescaled": 30.0,
        "random_forward": 0.0,
        "probabilities": 0.0,
    },
    "images": 200,
}
NAMES = [
    *("single step", "black box", "gradient free", "unbounded", "larger eps"),
    *("more steps", "zero gradient", "flat gradient", "saturated logits", "random forward", "probabilities"),
]


def checked(**changes: object) -> dict[str, Check]:
    checks = masking_checks(**{**HONEST, **changes})
    assert all(check.passed == (check.value <= check.threshold) for check in checks)
    assert all(check.unit in ("% of images", "points") and " High: " in check.what for check in checks)
    return {check.name: check for check in checks}


def with_accuracy(**changes: dict[float, float]) -> dict[str, dict[float, float]]:
    """Names with `_` for `/`."""
    return {**HONEST["accuracy"], **{name.replace("_", "/"): values for name, values in changes.items()}}


def test_an_honest_model_passes_all_eleven() -> None:
    checks = checked()
    assert list(checks) == NAMES
    assert all(check.passed for check in checks.values())
    values = {name: check.value for name, check in checks.items()}
    assert values == dict(zip(NAMES, [-10.0, -30.0, 0.0, 0.0, -30.0, -2.0, 0.0, 1.0, 0.0, 0.0, 0.0], strict=True))


@pytest.mark.parametrize(
    ("name", "changes", "value"),
    [
        ("single step", {"accuracy": with_accuracy(fgsm={0.2: 20.0})}, 10.0),
        ("single step", {"accuracy": with_accuracy(fgsm={0.2: 26.0})}, 4.0),  # although adaptive attacks break more
        ("black box", {"transferred": {"vgg": 80.0, "madry": 25.0}}, 5.0),
        ("gradient free", {"square_broken": 2.0}, 2.0),
        ("unbounded", {"accuracy": with_accuracy(unbounded={1.0: 30.0})}, 30.0),
        ("larger eps", {"accuracy": with_accuracy(bim={0.1: 50.0, 0.2: 55.0})}, 5.0),
        ("larger eps", {"accuracy": with_accuracy(pgd={0.05: 50.0, 0.1: 51.0, 0.2: 30.0, 1.0: 60.0})}, 30.0),
        ("larger eps", {"accuracy": with_accuracy(clean={0.0: 60.0})}, 6.0),
        ("more steps", {"accuracy": with_accuracy(steps_10={0.2: 20.0})}, 8.0),
        ("more steps", {"accuracy": with_accuracy(steps_9={0.2: 20.0})}, 10.0),  # 9 before 10, as numbers go
        ("zero gradient", {"measured": {"zero_gradient": 1.5}}, 1.5),
        ("flat gradient", {"measured": {"flat_gradient": 6.0}}, 6.0),
        ("saturated logits", {"measured": {"cross_entropy": 60.0, "rescaled": 30.0}}, 30.0),
        ("random forward", {"measured": {"random_forward": 0.5}}, 0.5),
        ("probabilities", {"measured": {"probabilities": 100.0, "log_probabilities": 0.0}}, 100.0),
        (
            "black box",
            {"accuracy": with_accuracy(adaptive_sibling={0.2: 20.0})},
            10.0,
        ),  # although vgg's and madry's images do nothing
    ],
)
def test_each_check_warns_of_its_own_sign(name: str, changes: dict[str, object], value: float) -> None:
    checks = checked(**changes)
    assert [check.name for check in checks.values() if not check.passed] == [name]
    assert checks[name].value == value


def test_what_was_not_measured_is_left_out() -> None:
    assert masking_checks({}, 0.2, {}, None, {}, 200) == []
    assert list(checked(square_broken=None, transferred={}, measured={"images": 200})) == [
        *("single step", "unbounded", "larger eps", "more steps"),
    ]
    elsewhere = {
        "fgsm": {0.1: 50.0},
        "pgd": {0.1: 50.0},
        "steps/10": {0.2: 50.0},
    }  # no attack of the papers at the headline's eps, one step count
    assert list(checked(accuracy=elsewhere, measured={"cross_entropy": 3.0})) == ["black box", "gradient free"]


def test_single_step_alone_is_the_white_box_where_nothing_else_was_run() -> None:
    checks = checked(accuracy={"fgsm": {0.2: 40.0}}, transferred={"vgg": 30.0})
    assert checks["black box"].value == 10
    assert "single step" not in checks


def test_tolerance_worked_by_hand() -> None:
    assert signs.tolerance(50, 50, 200) == pytest.approx(100 * 2 * sqrt(0.05 * 200) / 200)  # 10 images disagree: 6.3 images
    assert signs.tolerance(0, 0, 200) == 0  # nobody disagrees
    assert signs.tolerance(100, 100, 200) == 0
    assert signs.tolerance(2, 0, 200) == pytest.approx(2)  # at most 4 images disagree: 4 images
    assert signs.tolerance(100, 98, 200) == pytest.approx(2)
    for wrong in ((101, 50, 200), (50, -1, 200), (50, 50, 0)):
        with pytest.raises(ValueError, match="accuracies must be from 0 to 100 and images at least 1"):
            signs.tolerance(*wrong)


@pytest.mark.parametrize("check", [signs.single_step, signs.black_box, lambda a, b, n: signs.saturated_logits(b, a, n)])
def test_the_attack_that_should_be_weaker_is_given_first(check: Callable[[float, float, int], Check]) -> None:
    assert check(60, 40, 200).passed
    assert check(40, 43, 200).passed  # 6 images, by chance
    result = check(40, 44, 200)  # 8
    assert not result.passed
    assert result.value == 4
    assert not check(0, 3, 200).passed  # 6 images of 6
    assert check(43, 44, 1000).passed
    assert not check(43, 44, 10000).passed


def test_square_may_add_one_image_in_two_hundred_and_what_chance_adds_to_that() -> None:
    allowed = {200: 3, 360: 4, 1000: 9, 10000: 64}  # 0.5 % of the images, 1, 1.8, 5 and 50, and twice the root of that
    for images, number in allowed.items():
        assert signs.gradient_free(100 * number / images, images).passed
        assert not signs.gradient_free(100 * (number + 1) / images, images).passed


def test_larger_eps_and_more_steps_take_the_worst_pair() -> None:
    assert signs.larger_eps({0.3: 0, 0.1: 80, 0.2: 30}, 200).passed
    assert signs.larger_eps({0.3: 0, 0.1: 80, 0.2: 30}, 200).value <= 0
    rise = signs.larger_eps({0.1: 50, 0.2: 52, 0.3: 54}, 200)  # by little each time
    assert not rise.passed
    assert rise.value == 4
    between = signs.larger_eps({0.1: 50, 0.2: 52, 0.3: 0, 0.4: 0}, 200)
    assert between.value == 2  # between two zeros nothing is tolerated, which must not hide another pair
    assert not signs.more_steps({40: 60, 10: 50}, 200).passed
    with pytest.raises(ValueError, match="more steps needs at least 2 accuracies, got 1"):
        signs.more_steps({40: 60}, 200)


def test_unbounded_forgives_one_image_in_a_hundred() -> None:
    assert signs.unbounded(1.0).passed
    assert not signs.unbounded(1.5).passed


def test_the_black_box_check_may_have_an_eps_of_its_own() -> None:
    assert checked(transfer_eps=0.1)["black box"].value == pytest.approx(65.0 - 60.0)  # PGD at 0.1 against images from madry


def test_log_probabilities_are_no_sign() -> None:
    assert checked(measured={"probabilities": 0.0, "log_probabilities": 100.0})["probabilities"].passed


def test_a_value_that_two_images_would_turn_is_near_its_threshold() -> None:
    near = {value: signs.masking_checks({}, 0.2, {}, None, {"flat_gradient": value}, 100)[0] for value in (2.9, 3.0, 5.0, 7.0, 7.1)}
    assert {value: (check.passed, check.near) for value, check in near.items()} == {
        2.9: (True, False),
        3.0: (True, True),
        5.0: (True, True),
        7.0: (False, True),
        7.1: (False, False),
    }
    assert not any(check.near for check in checked().values())  # 0 of 200 images is no sign, although 1 % is allowed
    few = signs.masking_checks({}, 0.2, {}, None, {"zero_gradient": 0.0, "random_forward": 0.0}, 10)
    assert not any(check.near for check in few)
