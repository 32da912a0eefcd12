"""ADP and ATDA against numpy, hand values and finite differences."""

from math import e, log

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.losses.adp import ADP, log_diversity
from pipeline.losses.atda import ATDA, covariance, margin_loss


def members(*predictions: list[float]) -> Tensor:
    """(1, M * K) logits of members with these predictions; a probability of 0 becomes e^-60."""
    return torch.tensor([p for prediction in predictions for p in prediction], dtype=torch.float64).clamp(min=e**-60).log()[None]


def random_members(images: int, count: int, classes: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    g = scale * torch.randn(images, count * classes, dtype=torch.float64, generator=generator)
    return g, torch.randint(classes, (images,), generator=generator)


def test_adp_equals_the_value_worked_by_hand() -> None:
    # without the label 0 the members say (1/2, 0) and (0, 1/4): orthogonal, a volume of 1
    g, y = members([0.5, 0.5, 0.0], [0.75, 0.0, 0.25]), torch.tensor([0])
    ce = -log(0.5) - log(0.75)
    entropy = -0.625 * log(0.625) - 0.25 * log(0.25) - 0.125 * log(0.125)
    for alpha, beta in [(0.0, 0.0), (2.0, 0.0), (0.0, 0.5), (2.0, 0.5)]:
        value = ADP(3, 6, alpha=alpha, beta=beta)(g, y)
        torch.testing.assert_close(value, torch.tensor([ce - alpha * entropy], dtype=torch.float64), rtol=0, atol=1e-5)


def test_adp_diversity_is_the_angle_of_two_members() -> None:
    # without the label 2: (3, 4) / 5 and (4, 3) / 5, cosine 24 / 25; ED = 1 - cosine^2
    g, y = members([0.3, 0.4, 0.3], [0.4, 0.3, 0.3]), torch.tensor([2])
    without, with_diversity = (ADP(3, 6, alpha=0.0, beta=beta)(g, y) for beta in (0.0, 1.0))
    torch.testing.assert_close(
        without - with_diversity, torch.tensor([log(1 - (24 / 25) ** 2)], dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_adp_equals_numpy_determinants_and_torch_cross_entropies() -> None:
    g, y = random_members(6, 3, 5)
    p = np.exp(g.numpy().reshape(6, 3, 5))
    p /= p.sum(2, keepdims=True)
    mean = p.mean(1)
    expected = -2.0 * -(mean * np.log(mean)).sum(1)
    for i in range(6):
        v = np.delete(p[i], y[i].item(), axis=1)
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        expected[i] -= 0.5 * np.log(np.linalg.det(v @ v.T))
    ce = torch.stack([cross_entropy(member, y, reduction="none") for member in g.split(5, dim=1)]).sum(0)
    torch.testing.assert_close(ADP(5, 15, alpha=2.0, beta=0.5)(g, y), ce + torch.from_numpy(expected), rtol=1e-3, atol=1e-4)


def test_adp_gradient_equals_finite_differences() -> None:
    g, y = random_members(4, 3, 5)
    loss = ADP(5, 15, alpha=2.0, beta=0.5)
    assert torch.autograd.gradcheck(lambda g: loss(g, y), g.requires_grad_())


@pytest.mark.parametrize("case", ["members that agree", "sure of the label", "sure of another class"])
def test_adp_and_its_gradient_stay_finite_in_float32(case: str) -> None:
    g, y = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)).repeat(1, 3), torch.tensor([0, 1, 2, 3])
    hot = torch.nn.functional.one_hot(y if case == "sure of the label" else y + 1, 10).repeat(1, 3)
    g = g if case == "members that agree" else g + 300.0 * hot
    value = ADP(10, 30, alpha=2.0, beta=0.5)(g.requires_grad_(), y)
    value.sum().backward()
    assert value.isfinite().all()
    assert g.grad is not None
    assert g.grad.isfinite().all()


def test_adp_diversity_of_members_that_agree_is_the_jitter() -> None:
    own = torch.tensor([[True, False, False, False]])
    value = log_diversity(torch.tensor([[[0.0, 1.0, 2.0, 3.0]] * 3]), own)
    # the eigenvalues of a matrix of ones plus 1e-6: 3 + 1e-6, 1e-6, 1e-6
    torch.testing.assert_close(value, torch.tensor([log(3) + 2 * log(1e-6)]))


def test_adp_diversity_does_not_depend_on_how_sure_the_members_are_of_the_label() -> None:
    logits, own = torch.randn(1, 3, 10, generator=torch.Generator().manual_seed(0)), torch.arange(10)[None] == 4
    torch.testing.assert_close(
        log_diversity(logits + 300.0 * own[:, None], own), log_diversity(logits, own)
    )  # e^-300 is 0 in float32


@pytest.mark.parametrize("dim", [9, 11, 30])
def test_adp_refuses_logits_that_are_no_ensemble(dim: int) -> None:
    with pytest.raises(ValueError, match="1 to 2 members with 3 classes"):
        ADP(3, dim, alpha=2.0, beta=0.5)


def atda_batch(images: int, classes: int) -> tuple[Tensor, Tensor]:
    """Float64 logits of `images` clean and as many attacked images, labels of which the last class is absent."""
    generator = torch.Generator().manual_seed(7)
    g = torch.randn(2 * images, classes, dtype=torch.float64, generator=generator)
    return g, torch.randint(classes - 1, (images,), generator=generator).repeat(2)


def test_atda_equals_the_value_worked_by_hand() -> None:
    loss = ATDA(2, 2, weight=3.0)
    loss.centres.data = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    g = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([0, 1, 0, 1])
    mmd = (0.5 + 0.5) / 2  # means (1, 0) and (1/2, 1/2)
    coral = (1.5 + 0.5 + 0.5 + 0.5) / 4  # covariances ((2, 0), (0, 0)) and ((1/2, -1/2), (-1/2, 1/2))
    # distances to the own and the other centre: 0 and 4, 2 and 2, 1 and 3, 1 and 3
    margin = torch.tensor([log(1 + e**-4), log(2), log(1 + e**-2), log(1 + e**-2)])
    torch.testing.assert_close(loss(g, y), 3 * (mmd + coral + margin))


def test_atda_equals_numpy() -> None:
    g, y = atda_batch(6, 4)
    loss = ATDA(4, 4, weight=1.0).double()
    loss.centres.data = torch.randn(4, 4, dtype=torch.float64)
    x, c, labels = g.numpy(), loss.centres.detach().numpy(), y.numpy()
    mmd = np.abs(x[:6].mean(0) - x[6:].mean(0)).sum() / 4
    coral = np.abs(np.cov(x[:6], rowvar=False) - np.cov(x[6:], rowvar=False)).sum() / 16
    margin = [
        sum(np.log1p(np.exp(np.abs(x[i] - c[labels[i]]).sum() - np.abs(x[i] - c[j]).sum())) for j in range(4) if j != labels[i]) / 3
        for i in range(12)
    ]
    torch.testing.assert_close(loss(g, y), torch.from_numpy(mmd + coral + np.array(margin)))


def test_atda_feature_gradient_equals_finite_differences() -> None:
    g, y = atda_batch(3, 4)
    loss = ATDA(4, 4, weight=0.5).double()
    loss.centres.data = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss.centres.requires_grad_(False)  # its gradient is an update, not the loss's
    assert torch.autograd.gradcheck(lambda g: loss(g, y), g.requires_grad_())


def test_sgd_with_rate_a_tenth_is_the_centre_update_of_the_paper() -> None:
    loss = ATDA(3, 2, weight=0.3)
    g = torch.tensor([[3.0, 0.0], [0.0, 6.0], [3.0, 6.0], [8.0, 1.0]])
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    loss(g, torch.tensor([0, 2, 0, 2])).mean().backward()
    optimizer.step()
    # from 0: 0.1 * (6, 6) / (1 + 2) and 0.1 * (8, 7) / (1 + 2); class 1 was not in the batch
    torch.testing.assert_close(loss.centres.data, torch.tensor([[0.2, 0.2], [0.0, 0.0], [0.8 / 3, 0.7 / 3]]))


def test_atda_of_equal_halves_is_the_margin_loss_alone() -> None:
    g, y = atda_batch(5, 4)
    g = g[:5].repeat(2, 1)
    loss = ATDA(4, 4, weight=1.0).double()
    torch.testing.assert_close(loss(g, y), margin_loss(g, y, loss.centres.detach()))
    # all centres are still 0: every difference of distances is 0
    torch.testing.assert_close(loss(g, y), torch.full((10,), log(2), dtype=torch.float64))


def test_atda_refuses_a_batch_without_twins() -> None:
    with pytest.raises(ValueError, match="got 3 images"):
        ATDA(2, 2, weight=1.0)(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))


def test_covariance_of_one_image_is_0() -> None:
    torch.testing.assert_close(covariance(torch.ones(1, 3)), torch.zeros(3, 3))
