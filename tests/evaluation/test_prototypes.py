"""Nearest prototype and membership, and the attacks on them, by hand on features that are the pixels."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.apgd import apgd, apgd_targeted
from pipeline.attacks.objective import cross_entropy, targeted_margin
from pipeline.evaluation.prototypes import (
    Member,
    Nearest,
    Prototypes,
    accepted_target,
    accepted_wrong,
    last_prototypes,
    membership_attacks,
    nearest_attacks,
    not_broken,
    on_logits,
    ratio,
    shortfall,
)
from pipeline.losses.atda import ATDA
from pipeline.losses.center import CenterLoss
from pipeline.losses.contrastive import Contrastive
from pipeline.losses.hcp import HCP

HCP_OPTIONS = {
    "margin": 1.0,
    "proximity": 1.0,
    "negative": 1.0,
    "reduction": "mean",
    "centre_init": "uniform",
    "c": 0.0,
    "e": 0.001,
}
LAYERS = ["layer4", "layer5"]


class Pixels(nn.Module):
    """Two pixels are the features of layer5; the logits are `weight` times them plus `bias`."""

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, len(bias)).double()
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor(weight))
            self.classifier.bias.copy_(torch.tensor(bias))

    def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.classifier(x.flatten(1)), {"layer5": x.flatten(1)}

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0]


def images(*pixels: tuple[float, float]) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64)[:, None, None]


def prototypes(centres: list[list[float]], radii: list[float] | None = None, squared: bool = False) -> Prototypes:
    r = None if radii is None else torch.tensor(radii, dtype=torch.float64)
    return Prototypes("layer5", torch.tensor(centres, dtype=torch.float64), r, squared)


UPWARDS = Pixels([[0, -1], [0, 1]], [1, 0])  # class 1 where the second pixel is above 0.5
RIGHT = Pixels([[-1, 0], [1, 0]], [1, 0])  # class 1 where the first one is
AT_0_AND_1 = prototypes([[0, 0], [1, 0]])


def attack(model: nn.Module, x: Tensor, eps: float, objective: object, targets: bool = False) -> Tensor:
    y, generator = torch.zeros(len(x), dtype=torch.int64), torch.Generator().manual_seed(0)
    run = partial(apgd_targeted, targets=1) if targets else apgd
    x_adv = run(model, x, y, eps, steps=20, restarts=2, generator=generator, objective=objective)
    assert (x_adv - x).abs().max() <= eps + 1e-12
    with torch.no_grad():
        answer: Tensor = model(x_adv).argmax(1)
    return answer


def test_the_answer_is_minus_the_squared_distances() -> None:
    model = Nearest(UPWARDS, prototypes([[0, 0], [1, 0], [0.25, 0.5]]))
    torch.testing.assert_close(model(images((0.25, 0.5))), torch.tensor([[-0.3125, -0.8125, 0]], dtype=torch.float64))
    logits, found = model.forward_features(images((0.25, 0.5)))
    torch.testing.assert_close(found["logits"], torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert logits.shape == (1, 3)


def test_the_last_layer_with_centres_is_taken() -> None:
    center, hcp, atda = (
        CenterLoss(3, 2, weight=1.0, centre_init="normal"),
        HCP(3, 2, distance="squared", **HCP_OPTIONS),
        ATDA(3, 3, weight=1),
    )
    contrastive = Contrastive(3, 2, weight=1.0, margin=1.0, normalize=True)
    assert last_prototypes({}, LAYERS) is None
    assert last_prototypes({"layer5": contrastive}, LAYERS) is None
    found = last_prototypes({"layer5": contrastive, "layer4": center}, LAYERS)
    assert (found.layer, found.radii, found.squared) == ("layer4", None, False)
    assert torch.equal(found.centres, center.centres)
    found = last_prototypes({"layer5": hcp, "layer4": center}, LAYERS)
    assert (found.layer, found.squared) == ("layer5", True)
    assert found.radii.tolist() == [1, 1, 1]
    assert last_prototypes({"logits": atda, "layer5": hcp}, LAYERS).layer == "logits"


def test_an_attack_on_the_logits_says_nothing_of_the_nearest_prototype() -> None:
    model, x = Nearest(UPWARDS, AT_0_AND_1), images((0.3, 0.4), (0.35, 0.4))
    assert attack(UPWARDS, x, 0.18, cross_entropy).tolist() == [1, 1]
    assert attack(model, x, 0.18, on_logits).tolist() == [0, 0]  # it moves the second pixel, centres differ in the first
    for objective in (cross_entropy, ratio):
        assert attack(model, x, 0.18, objective).tolist() == [0, 1]  # the border is at 0.5
        assert attack(model, x, 0.21, objective).tolist() == [1, 1]
    assert attack(model, x, 0.18, targeted_margin, targets=True).tolist() == [0, 1]


def test_the_ratio_has_a_gradient_where_cross_entropy_has_none_left() -> None:
    model, x = Nearest(UPWARDS, prototypes([[0, 0], [1e3, 0]])).float(), images((0.3, 0.4)).float().requires_grad_()
    slopes = [torch.autograd.grad(f(model, x, torch.tensor([0]))[0].sum(), x)[0].flatten() for f in (cross_entropy, ratio)]
    assert slopes[0].tolist() == [0, 0]
    torch.testing.assert_close(slopes[1][0].item(), 0.3 / (0.3**2 + 0.4**2) + 1 / 999.7, rtol=1e-4, atol=0)
    assert ratio(model, images((0, 0)).float(), torch.tensor([0]))[0].isfinite()  # on a centre


def test_what_lies_outside_the_hypersphere_of_the_predicted_class_is_rejected() -> None:
    x = images((0.25, 0.5))  # class 0, at distance 0.559 from its centre and 0.3125 squared
    for radius, squared, answer in ((0.75, False, 0), (0.74, False, 2), (0.74, True, 0), (0.55, True, 2)):
        own = prototypes([[0, 0], [0.25, 0.5]], [radius, 1.0], squared)  # that of class 1 has it in any case
        assert Member(RIGHT, own)(x).argmax(1).tolist() == [answer]
    with pytest.raises(ValueError, match="layer5 have no radii"):
        Member(RIGHT, AT_0_AND_1)(x)
    prediction, y = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 0, 1])
    assert not_broken(prediction, y, 2).tolist() == [True, False, True, True]


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_rejected_is_the_largest_logit_and_accepted_the_smallest_wherever_the_others_lie(shift: float) -> None:
    network, centres = Pixels([[0, 0], [1, 0]], [shift, shift - 0.5]), [[0, 0], [0.25, 0.5]]
    rejected, accepted = (Member(network, prototypes(centres, [r, 1.0], False))(images((0.25, 0.5))) for r in (0.74, 0.75))
    assert rejected.argmax(1).tolist() == [2]
    assert accepted.argmax(1).tolist() == [0]
    assert accepted.argmin(1).tolist() == [2]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e6, 0.0), (1e-6, 0.0), (1.0, 8.0), (1.0, -8.0)])
def test_what_a_class_lacks_to_be_predicted_and_accepted(scale: float, shift: float) -> None:
    logits, d = scale * torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]]) + shift, torch.tensor([[0.5, 2.0, 3.0], [1.5, 0.5, 0.5]])
    expected = [[0, 1 + 1 / 1.001, 0.5 + 2 / 1.001], [0.5 / 1.001, 1, 0.5]]
    torch.testing.assert_close(shortfall(logits, d, torch.ones(3)), torch.tensor(expected))


def test_the_attack_on_membership_aims_at_being_accepted() -> None:
    """Class 1 needs a first pixel above 0.5, and its hypersphere a second one near 0.6, of which the logits know nothing."""
    own = prototypes([[0.3, 0.2], [0.6, 0.6]], [1.0, 0.105**0.5])
    model, x = Member(RIGHT, own), images((0.4, 0.2), (0.7, 0.2))  # the other is wrong as it is, and rejected
    with torch.no_grad():
        assert model(x).argmax(1).tolist() == [0, 2]
    assert attack(model, x, 0.3, on_logits).tolist() == [2, 2]
    assert attack(model, x, 0.3, accepted_wrong(own)).tolist() == [1, 1]
    assert attack(model, x, 0.3, accepted_target(own), targets=True).tolist() == [1, 1]
    for objective, targets in ((accepted_wrong(own), False), (accepted_target(own), True)):
        found = attack(model, x, 0.2, objective, targets=targets)  # at least 0.2 from the centre
        assert not_broken(found, torch.zeros_like(found), 2).all()


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_every_count_of_classes(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    network = Pixels(torch.randn(classes, 2, generator=generator).tolist(), [0.0] * classes)
    centres = torch.rand(classes, 2, dtype=torch.float64, generator=generator)
    own = Prototypes("layer5", centres, torch.full((classes,), 0.6, dtype=torch.float64), False)
    x, y = torch.rand(6, 1, 1, 2, dtype=torch.float64, generator=generator), torch.arange(6) % classes
    budget = {"steps": 3, "restarts": 2, "targets": 9}
    for model, attacks in (
        (Nearest(network, own), nearest_attacks(classes, **budget)),
        (Member(network, own), membership_attacks(own, **budget)),
    ):
        for run in attacks.values():
            x_adv = run(model, x, y, 0.1, generator=generator, batch_size=4)
            assert x_adv.shape == x.shape
            assert (x_adv - x).abs().max() <= 0.1 + 1e-12
