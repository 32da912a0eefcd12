"""Contrastive, triplet and prototype conformity losses against pytorch-metric-learning, loops, hand values, finite differences."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor, nn

from pipeline.losses.contrastive import Contrastive
from pipeline.losses.pcl import PCL
from pipeline.losses.triplet import Triplet

# On a line: 0 and 1 of class 0, 3 of class 1
LINE, LINE_Y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])


def batch(images: int = 12, dim: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Float64 features and labels; the last image is alone in its class."""
    generator = torch.Generator().manual_seed(3)
    g = torch.randn(images, dim, dtype=torch.float64, generator=generator)
    y = torch.randint(classes - 1, (images,), generator=generator)
    y[-1] = classes - 1
    return g, y


def per_anchor(losses: Tensor, anchors: Tensor, images: int) -> Tensor:
    """Mean of `losses` over each anchor's, 0 without any."""
    sums = torch.zeros(images, dtype=losses.dtype).index_add(0, anchors, losses)
    return sums / torch.bincount(anchors, minlength=images).clamp(min=1)


def test_contrastive_equals_the_value_worked_by_hand() -> None:
    loss = Contrastive(2, 1, margin=2.5, weight=4.0, normalize=False)
    # image 0: 1/2 [1/2 1^2 + 0]; image 1: 1/2 [1/2 1^2 + 1/2 (2.5 - 2)^2]; image 2: 1/2 (mean of 0 and 1/2 0.5^2); times 4
    torch.testing.assert_close(loss(LINE, LINE_Y), torch.tensor([1.0, 1.0 + 0.25, 0.125]))


def test_contrastive_equals_the_pairs_of_pytorch_metric_learning() -> None:
    g, y = batch()
    pairs = ContrastiveLoss(
        neg_margin=3.0, distance=LpDistance(normalize_embeddings=False), reducer=DoNothingReducer(), collect_stats=False
    )(g, y)
    pull, push = pairs["pos_loss"], pairs["neg_loss"]  # d and max(0, margin - d)
    expected = per_anchor(pull["losses"].square() / 2, pull["indices"][0], len(g)) / 2
    expected = expected + per_anchor(push["losses"].square() / 2, push["indices"][0], len(g)) / 2
    assert 0 < (push["losses"] > 0).double().mean() < 1
    torch.testing.assert_close(Contrastive(4, 5, margin=3.0, weight=0.3, normalize=False)(g, y), 0.3 * expected)


def test_normalized_losses_see_unit_vectors_as_pytorch_metric_learning_makes_them() -> None:
    g, y = batch()
    g = 50 * g  # of no consequence
    pairs = ContrastiveLoss(neg_margin=1.0, distance=LpDistance(), reducer=DoNothingReducer(), collect_stats=False)(g, y)
    expected = sum(
        per_anchor(part["losses"].square() / 2, part["indices"][0], len(g)) / 2 for part in (pairs["pos_loss"], pairs["neg_loss"])
    )
    torch.testing.assert_close(Contrastive(4, 5, margin=1.0, weight=1.0, normalize=True)(g, y), expected)
    triplets = TripletMarginLoss(margin=0.5, distance=LpDistance(power=2), reducer=DoNothingReducer())(g, y)["loss"]
    expected = per_anchor(triplets["losses"], triplets["indices"][0], len(g))
    torch.testing.assert_close(Triplet(4, 5, margin=0.5, weight=1.0, mining="all", normalize=True)(g, y), expected)


def test_contrastive_gradient_is_finite_for_equal_features() -> None:
    g = torch.ones(4, 3, requires_grad=True)
    Contrastive(2, 3, margin=1.0, weight=1.0, normalize=False)(g, torch.tensor([0, 0, 1, 1])).sum().backward()
    torch.testing.assert_close(g.grad, torch.zeros(4, 3))


def test_contrastive_gradient_keeps_its_direction_for_close_features_far_from_the_origin() -> None:
    g = torch.tensor([[1000.0, 0.0], [1000.001, 0.0]], requires_grad=True)
    Contrastive(2, 2, margin=1.0, weight=1.0, normalize=False)(g, torch.tensor([0, 1])).mean().backward()
    # each image: 1/4 (1 - d)^2 with d = 0.001; d/dg = 1/2 (1 - d) along the axis
    torch.testing.assert_close(g.grad, torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("mining", "margin", "expected"),
    [
        # image 0: 1 + 1 - 9 < 0; image 1: 1 + 1 - 4 < 0; image 2 has no positive
        ("all", 1.0, [0.0, 0.0, 0.0]),
        ("all", 6.0, [0.0, 3.0, 0.0]),
        ("hard", 10.0, [2.0, 7.0, 0.0]),
    ],
)
def test_triplet_equals_the_value_worked_by_hand(mining: str, margin: float, expected: list[float]) -> None:
    loss = Triplet(2, 1, margin=margin, weight=1.0, mining=mining, normalize=False)
    torch.testing.assert_close(loss(LINE, LINE_Y), torch.tensor(expected))


@pytest.mark.parametrize("margin", [0.2, 5.0, 100.0])
@pytest.mark.parametrize("mining", ["all", "hard"])
def test_triplet_equals_pytorch_metric_learning(mining: str, margin: float) -> None:
    g, y = batch()
    g.requires_grad_()
    distance = LpDistance(normalize_embeddings=False, power=2)
    mined = BatchHardMiner(distance=distance)(g, y) if mining == "hard" else None
    triplets = TripletMarginLoss(margin=margin, distance=distance, reducer=DoNothingReducer())(g, y, mined)["loss"]
    expected = 0.7 * per_anchor(triplets["losses"], triplets["indices"][0], len(g))
    ours = Triplet(4, 5, margin=margin, weight=0.7, mining=mining, normalize=False)(g, y)
    torch.testing.assert_close(ours, expected)
    assert (ours > 0).any()
    weight = torch.rand(len(g), dtype=g.dtype)  # a different one for each anchor
    torch.testing.assert_close(*(torch.autograd.grad((weight * value).sum(), g)[0] for value in (ours, expected)))


def test_triplet_over_all_of_a_float32_batch_equals_the_triplets_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    g, y = 30 * torch.randn(64, 256, generator=generator), torch.randint(10, (64,), generator=generator)
    d = torch.cdist(g.double(), g.double()).square()
    hinge = (1 + d[:, :, None] - d[:, None, :]).clamp(min=0)  # (B, P, N)
    same = y[:, None] == y
    valid = (same & ~torch.eye(64, dtype=torch.bool))[:, :, None] & ~same[:, None, :]
    expected = (hinge * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    torch.testing.assert_close(
        Triplet(10, 256, margin=1.0, weight=1.0, mining="all", normalize=False)(g, y).double(), expected, rtol=1e-4, atol=0.1
    )


@pytest.mark.parametrize(
    "loss",
    [
        Contrastive(4, 5, margin=3.0, weight=0.3, normalize=False),
        Triplet(4, 5, margin=5.0, weight=0.7, mining="all", normalize=False),
        Triplet(4, 5, margin=5.0, weight=0.7, mining="hard", normalize=False),
    ],
    ids=["contrastive", "triplet-all", "triplet-hard"],
)
@pytest.mark.parametrize("labels", ["mixed", "one class", "all different"])
def test_distance_loss_gradients_equal_finite_differences_and_stay_finite(loss: nn.Module, labels: str) -> None:
    g, y = batch()
    y = {"mixed": y, "one class": torch.zeros_like(y), "all different": torch.arange(len(y))}[labels]
    assert torch.autograd.gradcheck(lambda g: loss(g, y), g.requires_grad_())
    assert loss(g, y).isfinite().all()
    if isinstance(loss, Triplet) and labels != "mixed":
        torch.testing.assert_close(loss(g, y), torch.zeros(len(y), dtype=g.dtype))


def printed_pcl(f: NDArray[np.float64], w: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """pcl eq. 5, image by image and class by class."""
    k = len(w)
    values = []
    for i in range(len(f)):
        others = sum(np.sum((f[i] - w[j]) ** 2) + np.sum((w[y[i]] - w[j]) ** 2) for j in range(k) if j != y[i])
        values.append(np.sum((f[i] - w[y[i]]) ** 2) - others / (k - 1))
    return np.array(values)


def printed_pcl_gradient(f: NDArray[np.float64], w: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """pcl eq. 6, d/df, image by image."""
    k = len(w)
    return np.array([2 * (f[i] - w[y[i]] - sum(f[i] - w[j] for j in range(k) if j != y[i]) / (k - 1)) for i in range(len(f))])


def test_pcl_and_its_feature_gradient_are_equations_5_and_6_as_printed() -> None:
    loss = PCL(4, 5, pull=1.0, push=1.0, apart=1.0, shared_centres=True, centre_init="normal").double()
    g, y = batch()
    g.requires_grad_()
    value = loss(g, y)
    f, w, labels = g.detach().numpy(), loss.centres.detach().numpy(), y.numpy()
    torch.testing.assert_close(value, torch.from_numpy(printed_pcl(f, w, labels)))
    (gradient,) = torch.autograd.grad(value.sum(), g)
    torch.testing.assert_close(gradient, torch.from_numpy(printed_pcl_gradient(f, w, labels)))
    # the pull and the push cancel: the printed gradient is the same wherever the feature is
    torch.testing.assert_close(gradient, torch.from_numpy(printed_pcl_gradient(f + 7, w, labels)))
