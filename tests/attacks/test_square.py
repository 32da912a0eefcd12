"""The Square attack against ART's, the closed form of a linear model and the paper's schedule, and what it promises."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from art.attacks.evasion import SquareAttack
from art.estimators.classification import PyTorchClassifier
from torch import Generator, Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.attacks.square import share, square

room = import_module("pipeline.attacks.square")  # not the function of that name

ATTACK = {norm: partial(square, norm=norm, queries=200, p_init=0.8) for norm in ("linf", "l2")}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def robust_accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return 100 * (model(x).argmax(1) == y).double().mean().item()


def length(delta: Tensor, norm: str) -> Tensor:
    return delta.flatten(1).norm(dim=1, p=float("inf") if norm == "linf" else 2)


class Quantised(nn.Module):
    """Eight grey levels; the gradient of rounding is zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * 7).round() / 7)


def step_network(x: Tensor, y: Tensor) -> nn.Module:
    """Signs of 400 random projections of the mean-free images and the least squares fit of the labels on top."""

    class Sign(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.sign()

    torch.manual_seed(0)
    first, last = nn.Linear(64, 400).double(), nn.Linear(400, 10, bias=False).double()
    with torch.no_grad():
        first.bias.copy_(-first.weight @ x.flatten(1).mean(0))
        hidden = first(x.flatten(1)).sign()
        last.weight.copy_(torch.linalg.lstsq(hidden, nn.functional.one_hot(y, 10).double(), driver="gelsd").solution.T)
    return nn.Sequential(nn.Flatten(), first, Sign(), last)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("linf", 0.1), ("l2", 0.35), ("l2", 0.6)])
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")  # of ART, whose l2 start has empty tiles here
def test_as_strong_as_art(norm: str, eps: float, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    ours = robust_accuracy(trained, square(trained, x, y, eps, norm=norm, queries=300, p_init=0.8, generator=seeded()), y)
    model = nn.Sequential(trained).float()  # ART computes in float32
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0.0, 1.0))
    np.random.seed(0)  # noqa: NPY002  ART draws from it
    attack = SquareAttack(
        classifier, norm=np.inf if norm == "linf" else 2, eps=eps, max_iter=300, p_init=0.8, nb_restarts=1, verbose=False
    )
    theirs = torch.from_numpy(attack.generate(x.float().numpy(), nn.functional.one_hot(y, 10).numpy()))
    assert ours <= robust_accuracy(model, theirs, y) + 1.6  # two images


@pytest.mark.parametrize("queries", [10000, 5000])
def test_share_follows_the_published_schedule(queries: int) -> None:
    published = {0: 1, 10: 1, 50: 2, 200: 4, 500: 8, 1000: 16, 2000: 32, 4000: 64, 6000: 128, 8000: 256, 9999: 512}
    for query, divisor in published.items():
        assert share(query * queries // 10000, queries, 0.8) == pytest.approx(0.8 / divisor)
        if query not in (0, 9999):
            assert share(query * queries // 10000 + 1, queries, 0.8) == pytest.approx(0.4 / divisor)


@pytest.mark.parametrize("norm", ATTACK)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 12), (2, 3, 3), (1, 2, 1)])
@pytest.mark.parametrize("eps", [0.0, 0.05, 2.0])
def test_stays_in_the_ball_and_the_image_range(norm: str, shape: tuple[int, int, int], eps: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3).double())
    x = torch.rand(6, *shape, dtype=torch.float64).mul(1.4).sub(0.2).clamp(0, 1)
    y = model(x).argmax(1)
    x_adv = ATTACK[norm](model, x, y, eps, generator=seeded())
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert length(x_adv - x, norm).max() <= eps + 1e-12
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@pytest.mark.parametrize("norm", ATTACK)
def test_forwards_are_counted_and_broken_images_are_left_alone(
    norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    seen: list[int] = []
    x, y = digits[0], digits[1].clone()
    y[:5] = (y[:5] + 1) % 10  # wrong from the start
    trained.register_forward_hook(lambda _, args, logits: seen.append(len(args[0])))
    eps = 0.12 if norm == "linf" else 0.6
    x_adv = square(trained, x, y, eps, norm=norm, queries=50, p_init=0.8, generator=seeded())
    assert len(seen) == 50
    assert seen[1] == (trained(x).argmax(1) == y).sum()
    assert seen[1:-1] == sorted(seen[1:-1], reverse=True)
    assert seen[49] < seen[1]
    assert torch.equal(x_adv[:5], x[:5])
    seen.clear()
    square(trained, x, y, 1.0 if norm == "linf" else 8.0, norm=norm, queries=500, p_init=0.8, generator=seeded())
    assert len(seen) < 500  # all broken


def linear_model(x: Tensor, y: Tensor) -> nn.Module:
    ones = torch.cat([x.flatten(1), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    solution = torch.linalg.lstsq(ones, nn.functional.one_hot(y, 10).double(), driver="gelsd").solution
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    with torch.no_grad():
        model[1].weight.copy_(solution[:-1].T)
        model[1].bias.copy_(solution[-1])
    return model.requires_grad_(False)


@pytest.mark.parametrize("eps", [0.02, 0.04])
def test_breaks_of_a_linear_model_what_linf_allows(eps: float, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    model = linear_model(x, y)
    logits, weight = model(x), model[1].weight
    towards = weight[None] - weight[y][:, None]  # (B, K, 64)
    up, down = (((x + step).clamp(0, 1) - x).flatten(1)[:, None] for step in (eps, -eps))
    gain = torch.maximum(towards * up, towards * down).sum(2)  # (B, K), the most that the box allows
    margins = (logits - logits.gather(1, y[:, None]) + gain).scatter(1, y[:, None], -torch.inf)
    breakable = margins.amax(1) > 0
    assert 10 < breakable.sum() < 120
    broken = model(square(model, x, y, eps, norm="linf", queries=1000, p_init=0.8, generator=seeded())).argmax(1) != y
    assert not (broken & ~breakable).any()
    assert broken.sum() >= 0.9 * breakable.sum()


def test_breaks_of_a_linear_model_what_l2_allows(digits: tuple[Tensor, Tensor]) -> None:
    x, y = 0.4 + 0.2 * digits[0], digits[1]  # far enough from black and white for the closed form
    model = linear_model(x, y)
    logits, weight = model(x), model[1].weight
    distance = (logits.gather(1, y[:, None]) - logits) / (weight[None] - weight[y][:, None]).norm(dim=2)  # (B, K)
    distance = distance.scatter(1, y[:, None], torch.inf).amin(1)  # (B,)
    for eps in (0.01, 0.02):
        broken = model(square(model, x, y, eps, norm="l2", queries=1000, p_init=0.8, generator=seeded())).argmax(1) != y
        assert 10 < broken.sum() < 128
        assert not (broken & (distance > eps)).any()
        assert (broken & (distance < eps / 2)).sum() >= 0.9 * (distance < eps / 2).sum()


@pytest.mark.parametrize("plant", ["quantised input", "step activation"])
def test_breaks_a_model_without_gradient(plant: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    model = Quantised(trained) if plant == "quantised input" else step_network(x, y)
    assert robust_accuracy(model, x, y) > 95
    by_gradient = pgd(model, x, y, 0.3, steps=20, rel_step_size=0.25, generator=seeded())
    by_square = ATTACK["linf"](model, x, y, 0.3, generator=seeded())
    assert robust_accuracy(model, by_gradient, y) > 95
    assert robust_accuracy(model, by_square, y) < 10


@pytest.mark.parametrize("norm", ATTACK)
def test_differentiates_nothing_and_leaves_model_and_inputs_alone(
    norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(Tensor, "backward", refuse)
    x, y = digits[0].clone(), digits[1].clone()
    trained.train()
    trained[-1].eval()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    modes = [module.training for module in trained.modules()]
    x_adv = ATTACK[norm](trained, x, y, 0.1, generator=seeded())
    assert not x_adv.requires_grad
    assert [module.training for module in trained.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert torch.equal(x, digits[0])
    assert torch.equal(y, digits[1])


@pytest.mark.parametrize("norm", ATTACK)
def test_draws_from_the_generator_it_is_given(norm: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    state = torch.get_rng_state()
    runs = [ATTACK[norm](trained, *digits, 0.1, generator=seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_raises_the_objective_it_is_given(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    def constant(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_zeros(len(x)), model(x)

    x, y = 0.2 + 0.6 * digits[0], digits[1]
    x_adv = ATTACK["linf"](trained, x, y, 0.1, generator=seeded(), objective=constant)
    standing = (trained(x_adv).argmax(1) == y) & (trained(x).argmax(1) == y)
    delta = (x_adv - x)[standing]
    assert len(delta) > 30
    torch.testing.assert_close(delta, delta[:, :, :1].expand_as(delta))  # nothing is better than the stripes it starts from
    broken = [
        trained(ATTACK["linf"](trained, x, y, 0.3, generator=seeded(), objective=constant, queries=queries)).argmax(1) != y
        for queries in (2, 200)
    ]
    assert broken[1].sum() > broken[0].sum() + 10  # a wrong prediction is kept whatever the objective says


def test_eta_is_equation_2_worked_by_hand() -> None:
    upper = torch.tensor([[0.25, 1.25, 0.25]], dtype=torch.float64) / 1.6875**0.5  # 1 + 1/4 at the centre, 1/4 around it
    lower = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]], dtype=torch.float64) / 1.875**0.5
    expected = torch.cat([upper, -lower]) / 2**0.5
    torch.testing.assert_close(room._eta(3, like=expected), expected)
    assert room._eta(1, like=expected).item() == -1


def test_an_l2_step_moves_mass_between_two_windows_and_keeps_the_norm() -> None:
    x, eps = torch.full((40, 2, 9, 9), 0.5, dtype=torch.float64), 0.3
    start = room._tiles(x, eps, seeded())
    best = room._moved_mass(start, x, eps, 0.2, seeded(1))  # windows of 4 x 4, made odd: 5 x 5
    torch.testing.assert_close(length(best - x, "l2"), torch.full((40,), eps, dtype=torch.float64))
    changed = ~torch.isclose(best, start, rtol=0, atol=1e-12)
    assert changed.flatten(2).sum(2).min() >= 25
    assert changed.flatten(2).sum(2).max() <= 50
    mass = [(image - x).square().sum((2, 3)) for image in (start, best)]
    torch.testing.assert_close(mass[0], mass[1])  # of each channel for itself
    emptied = (best == x).flatten(2).sum(2)
    assert (emptied[:, 0] == emptied[:, 1]).all()  # the windows are the same in all channels
    assert len({tuple(image.nonzero()[0].tolist()) for image in changed}) > 10  # and elsewhere in each image


def test_what_an_l2_step_has_left_of_eps_goes_to_all_channels_alike() -> None:
    """Two channels with a third and a sixth of eps^2: each gets a quarter, half of what is unused."""
    x = torch.full((1, 2, 8, 8), 0.5, dtype=torch.float64)
    eps, directions = 0.3, torch.ones(1, 2, 8, 8, dtype=torch.float64) / 8
    share = torch.tensor([1 / 3, 1 / 6], dtype=torch.float64)
    start = x + eps * share.sqrt()[None, :, None, None] * directions
    best = room._moved_mass(start, x, eps, 0.2, seeded(1))
    torch.testing.assert_close((best - x).square().sum((2, 3))[0] / eps**2, share + 1 / 4)


def test_linf_changes_one_square_of_one_colour_per_channel() -> None:
    x = torch.full((300, 2, 8, 8), 0.5)
    best = room._stripes(x, 0.1, seeded())
    assert torch.equal(best[:, :, :1].expand_as(best), best)  # vertical stripes
    torch.testing.assert_close((best - x).abs(), torch.full_like(x, 0.1))
    assert (best[:, :, 0] != best[:, :1, 0, :1]).double().mean().item() == pytest.approx(0.47, abs=0.03)  # 15 of 16 by chance
    new = room._recoloured_square(x, x, 0.1, 0.14, seeded(1))  # 3 x 3 pixels
    changed = new != x
    assert (changed.flatten(2).sum(2) == 9).all()
    assert (new.amax((2, 3)) - new.amin((2, 3))).max() < 0.11  # one sign per channel
    assert ((new[:, 0] - x[:, 0]).sum((1, 2)) * (new[:, 1] - x[:, 1]).sum((1, 2)) < 0).double().mean() > 0.4  # drawn for each
    corners = changed[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].any(0)
    assert corners.all()  # squares reach all four


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -0.1}, r"eps must be at least 0, .* got -0\.1, 200 and 0\.8"),
        ({"queries": 1}, "queries at least 2"),
        ({"p_init": 0.0}, "p_init above 0"),
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
    ],
)
def test_bad_options_are_refused(
    change: dict[str, object], message: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    options = {"eps": 0.1, "norm": "linf", "queries": 200, "p_init": 0.8, **change}
    with pytest.raises(ValueError, match=message):
        square(trained, *digits, options.pop("eps"), **options)
