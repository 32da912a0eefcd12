"""The objectives against values worked by hand, closed forms and finite differences."""

from collections.abc import Mapping
from functools import partial
from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.attacks.apgd import apgd
from pipeline.attacks.objective import (
    Objective,
    cross_entropy,
    dlr,
    features,
    joint,
    joint_targeted,
    margin,
    targeted_dlr,
    targeted_margin,
    wrong_classes,
)
from pipeline.evaluation.centres import class_means
from pipeline.losses import LOSSES

LOGITS = torch.tensor([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]])
LABELS, TARGETS = torch.tensor([0, 2, 1]), torch.tensor([3, 1, 0])


def test_objectives_equal_the_values_worked_by_hand() -> None:
    same = nn.Identity()
    values = [objective(same, LOGITS, LABELS)[0] for objective in (dlr, partial(targeted_dlr, target=TARGETS), margin)]
    torch.testing.assert_close(values[0], torch.tensor([-(3 - 2) / (3 - 1), -(2 - 3) / (3 - 1), 0.0]))
    torch.testing.assert_close(values[1], torch.tensor([-(3 - 0) / (3 - (1 + 0) / 2), -(2 - 1) / (3 - (1 + 0) / 2), 0.0]))
    torch.testing.assert_close(values[2], torch.tensor([-1.0, 1.0, 0.0]))
    assert wrong_classes(LOGITS[:2], LABELS[:2]).tolist() == [[2, 1, 3], [0, 1, 3]]


@pytest.mark.parametrize("objective", [dlr, partial(targeted_dlr, target=TARGETS)])
def test_dlr_sees_neither_shift_nor_scale_of_the_logits(objective: Objective) -> None:
    torch.testing.assert_close(objective(nn.Identity(), 1000 * LOGITS - 70, LABELS)[0], objective(nn.Identity(), LOGITS, LABELS)[0])


@pytest.mark.parametrize(
    ("objective", "classes", "instead"),
    [(dlr, 3, "cross_entropy or margin"), (partial(targeted_dlr, target=TARGETS), 4, "targeted_margin")],
)
def test_dlr_refuses_too_few_classes(objective: Objective, classes: int, instead: str) -> None:
    with pytest.raises(ValueError, match=f"needs at least {classes} classes, got {classes - 1}; take {instead}"):
        objective(nn.Identity(), LOGITS[:, : classes - 1], LABELS)


def test_targeted_margin_is_the_difference_of_two_cross_entropies() -> None:
    same = nn.Identity()
    value = targeted_margin(same, LOGITS, LABELS, TARGETS)[0]
    assert value.tolist() == [-3.0, -1.0, 0.0]
    torch.testing.assert_close(value, cross_entropy(same, LOGITS, LABELS)[0] - cross_entropy(same, LOGITS, TARGETS)[0])


class Linear(nn.Module):
    """Images (B, 1, 1, D) -> their pixels and twice their pixels as features, a linear layer's logits."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, classes).double()

    def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        g = x.flatten(1)
        return self.classifier(g), {"first": g, "second": 2 * g}

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0]


class Pull(nn.Module):
    """|g - a_y|^2."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.centres = nn.Parameter(centres)

    def forward(self, g: Tensor, y: Tensor) -> Tensor:
        return (g - self.centres[y]).square().sum(1)


PLACES = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)


def image(*pixels: float) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)


def test_joint_targeted_equals_the_value_worked_by_hand() -> None:
    model, x = Linear(2, 3), image(0.0, 1.0)
    objective = joint_targeted({"first": Pull(PLACES), "logits": Pull(torch.eye(3, dtype=torch.float64))})
    value, logits = objective(model, x, torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(logits, model(x))
    z = logits[0]
    pixels = 1.0 - 18.0  # |(0, 1) - (0, 0)|^2 less |(0, 1) - (3, 4)|^2
    on_logits = 2 * (z[1] - z[0])  # |z - e_0|^2 - |z - e_1|^2
    torch.testing.assert_close(value, (z[1] - z[0] + pixels + on_logits)[None])


LOSS_OPTIONS = {
    "hcp": {"margin": 1.0, "proximity": 1.0, "negative": 1.0, "distance": "euclidean", "reduction": "mean", "c": 0.0, "e": 0.001},
    "pcl": {"pull": 0.1, "push": 0.01, "apart": 0.0, "shared_centres": False},
    "center": {"weight": 0.01},
}


@pytest.mark.parametrize("name", LOSS_OPTIONS)
def test_joint_targeted_is_the_difference_of_two_joints_and_so_is_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = Linear(5, 4)
    losses = {layer: LOSSES[name](4, 5, centre_init="normal", **LOSS_OPTIONS[name]).double() for layer in ("first", "second")}
    x = torch.rand(6, 1, 1, 5, dtype=torch.float64, requires_grad=True)
    y, target = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 0, 3, 2, 2, 3])
    ours = joint_targeted(losses)(model, x, y, target)[0]
    theirs = joint(losses)(model, x, y)[0] - joint(losses)(model, x, target)[0]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), x)[0] for value in (ours, theirs)))


def test_features_equal_the_value_worked_by_hand() -> None:
    x, y = image(0.0, 2.0), torch.tensor([2])
    value, logits = features({"first": PLACES})(Linear(2, 3), x, y)  # 2, sqrt(13) and sqrt(5) from the centres
    assert value.item() == pytest.approx(log(5**0.5) - log(2))
    assert logits.shape == (1, 3)
    second = torch.tensor([[0.0, 1.0], [4.0, 4.0], [2.0, 4.0]], dtype=torch.float64)  # (0, 4) is 3, 4 and 2 from them
    value, _ = features({"first": PLACES, "second": second})(Linear(2, 3), x, y)
    assert value.item() == pytest.approx(log(5**0.5) - log(2) + log(2) - log(3))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_features_see_no_scale(factor: float) -> None:
    class Scaled(Linear):
        def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            logits, layers = super().forward_features(x)
            return logits, {**layers, "second": factor * layers["second"]}

    torch.manual_seed(0)
    x, y = torch.rand(8, 1, 1, 2, dtype=torch.float64), torch.randint(0, 3, (8,))
    places = {"first": PLACES, "second": torch.rand(3, 2, dtype=torch.float64)}
    expected = features(places)(Linear(2, 3), x, y)[0]
    torch.testing.assert_close(features({**places, "second": factor * places["second"]})(Scaled(2, 3), x, y)[0], expected)


def test_gradient_of_features_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    model, centres = Linear(3, 4), {layer: torch.rand(4, 3, dtype=torch.float64) for layer in ("first", "second")}
    x, y = torch.rand(5, 1, 1, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(lambda x: features(centres)(model, x, y)[0], x)


@pytest.mark.parametrize("away", [0.0, 1e-30, 1e-12, 1e-6])
@pytest.mark.parametrize("y", [0, 1])
def test_features_are_finite_on_a_centre_and_close_to_it(y: int, away: float) -> None:
    model, centres = Linear(2, 3).float(), {"first": PLACES.float()}
    x = image(away, 0.0).float().requires_grad_()  # at the centre of class 0
    value, _ = features(centres)(model, x, torch.tensor([y]))
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all()
    assert grad.isfinite().all()
    if away > 1e-30:  # whose square is 0 in float32
        assert grad[0, 0, 0, 0].item() * (1 if y == 0 else -1) > 0.9 / away  # d log d / dd
        assert (value < 0) == (y == 0)


def test_features_near_a_centre_far_from_the_origin_are_not_rounded_away() -> None:
    x = image(100.001, 100.0).float()
    value, _ = features({"first": PLACES.float() + 100})(Linear(2, 3).float(), x, torch.tensor([0]))
    away = x[0, 0, 0, 0].item() - 100  # as float32 has it; the next centre is 1 - away away
    assert value.item() == pytest.approx(log(away) - log(1 - away), abs=1e-5)


def test_features_take_the_centres_of_a_loss_and_leave_them_without_gradient() -> None:
    loss = Pull(PLACES)
    x = image(0.5, 0.5).requires_grad_()
    value, _ = features({"first": loss.centres, "logits": torch.eye(3, dtype=torch.float64)})(Linear(2, 3), x, torch.tensor([1]))
    value.sum().backward()
    assert loss.centres.grad is None


def test_features_lead_to_the_nearest_wrong_centre() -> None:
    class Nearest(nn.Module):
        """Says the class of the nearest of PLACES / 4 to the pixels."""

        def forward_features(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            g = x.flatten(1)
            return -torch.cdist(g, PLACES / 4).square(), {"first": g}

        def forward(self, x: Tensor) -> Tensor:
            return self.forward_features(x)[0]

    x, y = torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.zeros(40).long()
    x = 0.1 * x  # near centre 0, at (0, 0); the next one, 2, is at (0.25, 0)
    attack = partial(apgd, steps=20, restarts=1, generator=torch.Generator().manual_seed(0))
    x_adv = attack(Nearest(), x, y, 0.3, objective=features({"first": PLACES / 4}))
    assert (Nearest()(x_adv).argmax(1) == 2).all()
    x_adv = attack(Nearest(), x, y, 0.02, objective=features({"first": PLACES / 4}))  # too near to break: it leaves its own centre
    nearer = torch.cdist(x_adv.flatten(1), PLACES[2:] / 4) < torch.cdist(x.flatten(1), PLACES[2:] / 4)
    assert nearer.all()


def test_class_means_worked_by_hand() -> None:
    g, y = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0], [5.0, 6.0]]), torch.tensor([1, 1, 0, 1])
    torch.testing.assert_close(class_means(g, y, 2), torch.tensor([[5.0, 5.0], [3.0, 4.0]]))
    torch.testing.assert_close(class_means(g, y, 2)[1], F.one_hot(y, 2).float().T[1] @ g / 3)
    for classes, message in ((3, r"each of 3 classes needs an image .* got \[1, 3, 0\]"), (1, "no other label may occur")):
        with pytest.raises(ValueError, match=message):
            class_means(g, y, classes)
