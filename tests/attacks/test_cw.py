"""C&W against two other libraries, torch's Adam and the closed form of a linear model."""

import sys
from functools import partial

import foolbox
import pytest
import torch
from art.attacks.evasion import CarliniL2Method
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from pipeline.attacks.cw import cw

SETTINGS = {"confidence": 0.0, "learning_rate": 0.05, "steps": 100}


def margin(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """By how much the model is right, (B,)."""
    logits = model(x).detach()
    label = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    return logits[label] - logits[~label].view(len(y), -1).max(1).values


def l2(x_adv: Tensor, x: Tensor) -> Tensor:
    return (x_adv - x).flatten(1).norm(dim=1)


def compare(model: nn.Module, x: Tensor, y: Tensor, ours: Tensor, theirs: Tensor, *, ratio: float) -> None:
    """At least as many images broken, and the median distance at most `ratio` times theirs. Both are 0 where an attack failed."""
    right = margin(model, x, y) > 0
    success = [right & (margin(model, x_adv, y) < 0) for x_adv in (ours, theirs)]
    assert success[0].sum() >= success[1].sum() > 0
    both = success[0] & success[1]
    assert l2(ours, x)[both].median() <= ratio * l2(theirs, x)[both].median()


@pytest.mark.parametrize(("c", "binary_search_steps"), [(0.01, 5), (0.1, 1), (1.0, 1), (10.0, 1)])
def test_as_near_as_foolbox(c: float, binary_search_steps: int, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    ours = cw(trained, *digits, c, **SETTINGS, binary_search_steps=binary_search_steps)
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=binary_search_steps, steps=100, stepsize=0.05, confidence=0, initial_const=c
    )
    theirs = attack.run(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), *digits)
    failed = theirs.flatten(1).abs().sum(1) == 0  # foolbox returns black images for those
    compare(trained, *digits, ours, torch.where(failed[:, None, None, None], digits[0], theirs), ratio=1.01)


def test_as_near_as_art(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model, x, y = nn.Sequential(trained).float(), digits[0][:48].float(), digits[1][:48]  # ART computes in float32
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0.0, 1.0))
    attack = CarliniL2Method(
        classifier,
        confidence=0.0,
        learning_rate=0.05,
        binary_search_steps=5,
        max_iter=20,
        initial_const=0.01,
        batch_size=48,
        verbose=False,
    )
    theirs = torch.from_numpy(attack.generate(x.numpy(), nn.functional.one_hot(y, 10).numpy()))
    ours = cw(model.eval(), x, y, 0.01, confidence=0.0, learning_rate=0.05, steps=20, binary_search_steps=5)
    compare(model, x, y, ours, theirs, ratio=1.05)


@pytest.mark.parametrize("confidence", [0.0, 30.0])
def test_descends_the_objective_as_torch_adam_does(confidence: float, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    right = trained(digits[0]).argmax(1) == digits[1]
    x, y = digits[0][right][:8].clamp(0.01, 0.99), digits[1][right][:8]
    seen: list[Tensor] = []
    handle = trained.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    cw(trained, x, y, 3.0, confidence=confidence, learning_rate=0.02, steps=15, binary_search_steps=1)
    handle.remove()
    zeta = ((2 * x - 1) * 0.999999).atanh().requires_grad_()
    optimizer = torch.optim.Adam([zeta], lr=0.02)
    assert len(seen) == 16  # the clean images, and every step
    for step in range(1, 16):
        x_adv = 0.5 * (zeta.tanh() + 1)
        torch.testing.assert_close(seen[step], x_adv.detach(), atol=1e-7, rtol=0)
        logits = trained(x_adv)
        f = [max(z[label] - torch.cat([z[:label], z[label + 1 :]]).max(), -confidence) for z, label in zip(logits, y, strict=True)]
        optimizer.zero_grad()
        ((x_adv - x).square().sum() + 3.0 * sum(torch.as_tensor(value) for value in f)).backward()
        optimizer.step()


class Plane(nn.Module):
    """Logits (-m, m) with m = w x - w 0.5: the gradient of the margin is 2 w, the nearest point beyond a margin of -k is
    (margin + k) / (2 |w|) away, and c pays for it once c |2 w|^2 / 2 >= margin + k."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 16, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        m = (x - 0.5).flatten(1) @ self.w
        return torch.stack([-m, m], dim=1)


@pytest.fixture
def plane() -> tuple[Plane, Tensor, Tensor]:
    """A plane, and 40 images on both sides of it with the labels of their sides."""
    model = Plane()
    x = 0.35 + 0.3 * torch.rand(40, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_finds_the_nearest_point_beyond_a_plane(confidence: float, plane: tuple[Plane, Tensor, Tensor]) -> None:
    model, x, y = plane
    x_adv = cw(model, x, y, 1.0, confidence=confidence, learning_rate=0.005, steps=1000, binary_search_steps=1)
    norm = model.w.detach().norm()
    distance = (margin(model, x, y) + confidence) / (2 * norm)
    assert l2(x_adv, x).numpy() == pytest.approx(distance.numpy(), rel=0.02, abs=0.003)
    assert (l2(x_adv, x) >= distance).all()
    assert (margin(model, x_adv, y) <= -confidence).all()
    side = (2 * y - 1)[:, None].double()
    direction = (x - x_adv).flatten(1) / l2(x_adv, x)[:, None]
    far = distance > 0.05
    assert far.sum() > 10
    assert (direction @ (model.w.detach() / norm) * side[:, 0])[far].min() > 0.99


@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_a_constant_breaks_what_it_pays_for(confidence: float, plane: tuple[Plane, Tensor, Tensor]) -> None:
    model, x, y = plane
    c = 0.03 + 0.09 * confidence
    x_adv = cw(model, x, y, c, confidence=confidence, learning_rate=0.001, steps=1500, binary_search_steps=1)
    needed = (margin(model, x, y) + confidence) / (2 * model.w.detach().square().sum())
    broken = margin(model, x_adv, y) < 0
    assert 5 < broken.sum() < 35
    assert broken[needed < 0.9 * c].all()
    assert not broken[needed > 1.1 * c].any()
    assert torch.equal(x_adv[~broken], x[~broken])


def test_binary_search_tries_the_constants_worked_by_hand(
    monkeypatch: pytest.MonkeyPatch, plane: tuple[Plane, Tensor, Tensor]
) -> None:
    tried = []

    def descend(model: nn.Module, x: Tensor, y: Tensor, c: Tensor, *_: float) -> tuple[Tensor, Tensor]:
        tried.append(c.tolist())
        return x, torch.where(c >= torch.tensor([3.0, 0.06], dtype=c.dtype), c, torch.inf)  # what these two images need

    monkeypatch.setattr(sys.modules["pipeline.attacks.cw"], "_descend", descend)
    cw(plane[0], plane[1][:2], plane[2][:2], 0.1, confidence=0.0, learning_rate=0.1, steps=1, binary_search_steps=6)
    first, second = zip(*tried, strict=True)
    assert first == pytest.approx([0.1, 1.0, 10.0, 5.5, 3.25, 2.125])
    assert second == pytest.approx([0.1, 0.05, 0.075, 0.0625, 0.05625, 0.059375])


def test_more_binary_search_is_never_farther(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    found = [cw(trained, *digits, 1.0, **SETTINGS, binary_search_steps=n) for n in (1, 2, 4)]
    broken = margin(trained, found[0], digits[1]) < 0
    distances = [l2(x_adv, digits[0])[broken] for x_adv in found]
    assert (distances[1] <= distances[0]).all()
    assert (distances[2] <= distances[1]).all()
    assert distances[2].mean() < distances[0].mean()


def test_a_larger_constant_breaks_at_least_as_many(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    broken = [
        (margin(trained, cw(trained, *digits, c, **SETTINGS, binary_search_steps=1), digits[1]) < 0).sum()
        for c in (0.001, 0.01, 0.1, 1)
    ]
    assert broken == sorted(broken)
    assert broken[0] < broken[-2] < broken[-1] == len(digits[1])


@pytest.mark.parametrize("confidence", [0.5, 5.0])
def test_confidence_is_the_margin_of_the_wrong_class(confidence: float, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    x_adv = cw(trained, x, y, 1.0, **{**SETTINGS, "confidence": confidence}, binary_search_steps=2)
    moved = l2(x_adv, x) > 0
    assert moved.sum() > 100
    assert margin(trained, x_adv, y)[moved].max() <= -confidence + 1e-9
    assert (margin(trained, x_adv, y)[moved] + confidence).median() > -0.5  # and hardly more


def test_failures_and_wrong_images_come_back_unchanged(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    wrong = y.clone()
    wrong[::2] = (trained(x).argmax(1)[::2] + 1) % 10
    x_adv = cw(trained, x, wrong, 0.05, **SETTINGS, binary_search_steps=1)
    moved = l2(x_adv, x) > 0
    assert not moved[::2].any()
    assert torch.equal(moved, (trained(x).argmax(1) == wrong) & (trained(x_adv).argmax(1) != wrong))
    assert 0 < moved.sum() < 64
    assert torch.equal(cw(trained, x, (trained(x).argmax(1) + 1) % 10, 0.1, **SETTINGS, binary_search_steps=1), x)


def test_finished_images_leave_the_batch_and_change_no_other(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    attack = partial(cw, confidence=0.0, learning_rate=0.1, steps=60, binary_search_steps=2)
    sizes: list[int] = []
    handle = trained.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    together = attack(trained, x, y, 100.0)
    handle.remove()
    assert len(set(sizes)) >= 4
    assert sum(sizes) < 0.6 * 121 * len(x)
    alone = torch.cat([attack(trained, x[i : i + 1], y[i : i + 1], 100.0) for i in range(12)])
    torch.testing.assert_close(together[:12], alone)


def test_float32_and_black_and_white_pixels_stay_finite_and_in_range(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model, x, y = nn.Sequential(trained).float(), digits[0].round().float(), digits[1]
    x_adv = cw(model, x, y, 10.0, confidence=0.0, learning_rate=0.03, steps=330, binary_search_steps=1)  # ten tenths of 33 steps
    assert x_adv.dtype == torch.float32
    assert x_adv.isfinite().all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (model(x_adv).argmax(1) != y).all()


@pytest.mark.parametrize(
    "bad",
    [{"c": 0.0}, {"c": -1.0}, {"confidence": -0.1}, {"learning_rate": 0.0}, {"steps": 0}, {"binary_search_steps": 0}],
    ids=lambda bad: next(iter(bad)),
)
def test_bad_arguments_are_refused(bad: dict[str, float], trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    arguments = {"c": 1.0, **SETTINGS, "binary_search_steps": 1} | bad
    with pytest.raises(ValueError, match="must be above 0"):
        cw(trained, *digits, **arguments)
