"""The losses against values worked by hand and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.losses.center import CenterLoss
from pipeline.losses.hcp import HCP
from pipeline.losses.pcl import PCL
from pipeline.losses.prototypes import squared_distances

# Three centres in the plane and one feature at the origin, label 0: distances 1, 3, 5; squared 1, 9, 25; radii 1, 2, 1.
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 3.0], [3.0, 4.0]])
RADII = torch.tensor([1.0, 2.0, 1.0])
G, Y = torch.zeros(1, 2), torch.tensor([0])


def hcp(**changes: object) -> HCP:
    options = {"margin": 1.0, "proximity": 1.0, "negative": 1.0, "distance": "squared", "reduction": "sum", "centre_init": "normal"}
    loss = HCP(3, 2, **{**options, "c": 0.0, "e": 0.5, **changes})
    loss.centres.data, loss.radii.data = CENTRES.clone(), RADII.clone()
    return loss


def pcl(**changes: object) -> PCL:
    options = {"pull": 1.0, "push": 1.0, "apart": 1.0, "shared_centres": True, "centre_init": "normal"}
    loss = PCL(3, 2, **{**options, **changes})
    loss.centres.data = CENTRES.clone()
    return loss


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # L_M: own class 1 - 1 = 0; class 1: 4 - 9 < 0; class 2: 1 - 25 < 0
        ({"proximity": 0.0, "negative": 0.0}, 0.0),
        # with the distance itself: own 1 - 1 = 0; class 1: 4 - 3 = 1; class 2: 1 - 5 < 0
        ({"proximity": 0.0, "negative": 0.0, "distance": "euclidean"}, 1.0),
        ({"proximity": 0.0, "negative": 0.0, "distance": "euclidean", "reduction": "mean"}, 1 / 3),
        # c is the floor of each class's part: 0.25 + 1 + 0.25
        ({"proximity": 0.0, "negative": 0.0, "distance": "euclidean", "c": 0.25}, 1.5),
        # L_P: 1 / (1 + 0.5)
        ({"margin": 0.0, "negative": 0.0}, 1 / 1.5),
        # L_NP: 4 / (9 + 0.5) + 1 / (25 + 0.5)
        ({"margin": 0.0, "proximity": 0.0}, 4 / 9.5 + 1 / 25.5),
        ({"margin": 0.0, "proximity": 0.0, "distance": "euclidean"}, 4 / 3.5 + 1 / 5.5),
        # weights: 2 * 1 + 3 * (1 / 1.5) + 4 * (4 / 3.5 + 1 / 5.5)
        ({"margin": 2.0, "proximity": 3.0, "negative": 4.0, "distance": "euclidean"}, 2 + 2 + 16 / 3.5 + 4 / 5.5),
    ],
)
def test_hcp_equals_the_value_worked_by_hand(changes: dict[str, object], expected: float) -> None:
    torch.testing.assert_close(hcp(**changes)(G, Y), torch.tensor([expected]))


def test_hcp_margin_is_the_distance_to_the_boundary_of_a_sphere_that_should_hold_the_image() -> None:
    loss = hcp(proximity=0.0, negative=0.0, distance="euclidean")
    torch.testing.assert_close(
        loss(G, torch.tensor([2])), torch.tensor([4.0 + 1.0 + 0.0])
    )  # own 5 - 1; class 1: 4 - 3; class 0: 1 - 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"push": 0.0, "apart": 0.0}, 1.0),
        ({"pull": 0.0, "apart": 0.0}, -(9 + 25) / 2),
        # |a_0 - a_1|^2 = 1 + 9 = 10, |a_0 - a_2|^2 = 4 + 16 = 20
        ({"pull": 0.0, "push": 0.0}, -(10 + 20) / 2),
        ({}, 1 - (9 + 25 + 10 + 20) / 2),
        ({"pull": 2.0, "push": 0.5, "apart": 0.1}, 2 - (0.5 * 34 + 0.1 * 30) / 2),
    ],
)
def test_pcl_equals_the_value_worked_by_hand(changes: dict[str, object], expected: float) -> None:
    torch.testing.assert_close(pcl(**changes)(G, Y), torch.tensor([expected]))


def test_pcl_with_two_sets_of_centres_pushes_from_the_second() -> None:
    loss = pcl(shared_centres=False, apart=0.0)
    assert loss.push_centres is not None
    loss.push_centres.data = torch.tensor([[9.0, 9.0], [1.0, 1.0], [2.0, 0.0]])
    torch.testing.assert_close(loss(G, Y), torch.tensor([1 - (2.0 + 4.0) / 2]))
    assert {name for name, _ in loss.named_parameters()} == {"centres", "push_centres"}


def test_center_loss_and_its_feature_gradient_are_equation_11() -> None:
    loss = CenterLoss(3, 2, weight=0.1, centre_init="normal")
    loss.centres.data = CENTRES.clone()
    g = torch.zeros(2, 2, requires_grad=True)
    value = loss(g, torch.tensor([0, 2]))
    torch.testing.assert_close(value, torch.tensor([0.1 / 2 * 1, 0.1 / 2 * 25]))
    value.sum().backward()
    torch.testing.assert_close(g.grad, -0.1 * CENTRES[[0, 2]])


def test_sgd_on_center_loss_is_the_centre_update_of_equation_13() -> None:
    loss = CenterLoss(3, 2, weight=0.003, centre_init="normal")
    loss.centres.data = torch.zeros(3, 2)
    g, y = torch.tensor([[3.0, 0.0], [0.0, 6.0], [8.0, 0.0]]), torch.tensor([0, 0, 2])
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    loss(g, y).mean().backward()
    optimizer.step()
    # class 0: (3, 6) / (1 + 2), class 2: (8, 0) / (1 + 1); times alpha = 0.5; class 1 was not in the batch
    torch.testing.assert_close(loss.centres.data, torch.tensor([[0.5, 1.0], [0.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize(
    "loss",
    [
        hcp(distance="euclidean"),
        hcp(distance="squared", reduction="mean", c=0.1),
        pcl(),
        pcl(shared_centres=False, push=0.3, apart=0.2),
    ],
    ids=["hcp-euclidean", "hcp-squared", "pcl-shared", "pcl-two-sets"],
)
def test_gradients_equal_finite_differences(loss: nn.Module) -> None:
    torch.manual_seed(1)
    loss = loss.double()
    g, y = torch.randn(5, 2, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 2, 0])
    parameters = list(loss.parameters())

    def value(g: Tensor, *_: Tensor) -> Tensor:
        return loss(g, y)

    assert torch.autograd.gradcheck(value, (g, *parameters))


def test_pcl_feature_gradient_is_equation_6() -> None:
    loss = pcl()
    g = torch.zeros(1, 2, requires_grad=True)
    loss(g, Y).sum().backward()
    expected = 2 * ((0 - CENTRES[0]) - ((0 - CENTRES[1]) + (0 - CENTRES[2])) / 2)
    torch.testing.assert_close(g.grad, expected[None])


def test_euclidean_hcp_has_a_finite_gradient_on_its_centre() -> None:
    loss = hcp(distance="euclidean")
    g = CENTRES[:1].clone().requires_grad_()
    loss(g, Y).sum().backward()
    assert g.grad is not None
    assert g.grad.isfinite().all()


def test_distances_equal_those_of_torch_cdist() -> None:
    g, centres = torch.randn(7, 33, dtype=torch.float64), torch.randn(5, 33, dtype=torch.float64)
    torch.testing.assert_close(squared_distances(g, centres), torch.cdist(g, centres).square())


def test_initial_prototypes_are_as_asked_for() -> None:
    torch.manual_seed(0)
    uniform, normal = hcp(centre_init="uniform"), HCP(50, 100, **{**vars_of(hcp()), "centre_init": "normal"})
    assert torch.equal(HCP(3, 2, **vars_of(uniform)).radii, torch.ones(3))
    wide = HCP(50, 100, **{**vars_of(uniform), "centre_init": "uniform"}).centres
    assert 0 <= wide.min() < 0.01
    assert 0.99 < wide.max() < 1
    assert normal.centres.std().item() == pytest.approx(1, abs=0.05)


def vars_of(loss: HCP) -> dict[str, object]:
    names = ("margin", "proximity", "negative", "distance", "reduction", "c", "e")
    return {"centre_init": "uniform", **{name: vars(loss)[name] for name in names}}
