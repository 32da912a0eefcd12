"""The attacks against two other libraries on the same model and images, and what they promise."""

from collections.abc import Callable
from functools import partial

import eagerpy as ep
import foolbox
import numpy as np
import pytest
import torch
from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod, MomentumIterativeMethod, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from conftest import check_untouched
from foolbox.attacks.gradient_descent_base import normalize_lp_norms
from torch import Tensor, nn

from pipeline.attacks import ATTACKS
from pipeline.attacks.bim import bim
from pipeline.attacks.cw import cw
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.mim import mim
from pipeline.attacks.objective import cross_entropy
from pipeline.attacks.pgd import pgd

EPS = 0.15
ALL = {
    "fgsm": fgsm,
    "bim": partial(bim, steps=10, rel_step_size=0.1),
    "mim": partial(mim, steps=10, rel_step_size=0.1, decay=1.0),
    "pgd": partial(pgd, steps=10, rel_step_size=0.25),
}
CW = {"cw": partial(cw, confidence=0.0, learning_rate=0.05, steps=20, binary_search_steps=2)}  # no ball: see test_cw.py
FOOLBOX = {
    "fgsm": foolbox.attacks.LinfFastGradientAttack(),
    "bim": foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.1, steps=10, random_start=False),
    "mim": foolbox.attacks.LinfMomentumIterativeFastGradientMethod(rel_stepsize=0.1, steps=10, momentum=0.0, random_start=False),
}  # foolbox's MIM does not divide the gradients by their l1 norm as eq. 18 does, so without momentum only is it the paper's


def art_classifier(model: nn.Module) -> PyTorchClassifier:
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0.0, 1.0))


def robust_accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return 100 * (model(x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("name", FOOLBOX)
def test_deterministic_attacks_give_foolbox_perturbation(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    attack = partial(mim, steps=10, rel_step_size=0.1, decay=0.0) if name == "mim" else ALL[name]
    ours = attack(trained, *digits, EPS)
    theirs = FOOLBOX[name].run(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), *digits, epsilon=EPS)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["fgsm", "bim", "mim"])
def test_deterministic_attacks_give_art_perturbation(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = nn.Sequential(trained).float(), digits  # ART computes in float32
    classifier = art_classifier(model)
    attack = {
        "fgsm": lambda: FastGradientMethod(classifier, norm=np.inf, eps=EPS, batch_size=128),
        "bim": lambda: BasicIterativeMethod(classifier, eps=EPS, eps_step=EPS / 10, max_iter=10, batch_size=128, verbose=False),
        "mim": lambda: MomentumIterativeMethod(classifier, eps=EPS, eps_step=EPS / 10, max_iter=10, decay=1.0, verbose=False),
    }[name]()
    theirs = torch.from_numpy(attack.generate(x.float().numpy(), nn.functional.one_hot(y, 10).numpy()))
    ours = ALL[name](model, x.float(), y, EPS)
    trained.double()
    same = torch.isclose(ours, theirs, atol=1e-5).double().mean().item()  # a sign near zero may fall either way in float32
    assert same > 0.995
    assert robust_accuracy(trained, ours.double(), y) == pytest.approx(robust_accuracy(trained, theirs.double(), y), abs=100 / 128)


def test_pgd_is_as_strong_as_that_of_foolbox_and_art(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    eps = 0.08  # in between, where accuracies are neither 0 nor 100
    reference = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=10, random_start=True)
    torch.manual_seed(0)
    theirs = reference.run(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), x, y, epsilon=eps)
    ours = ALL["pgd"](trained, x, y, eps, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(trained).float()
    attack = ProjectedGradientDescentPyTorch(
        art_classifier(model), eps=eps, eps_step=eps / 4, max_iter=10, num_random_init=1, batch_size=128, verbose=False
    )
    arts = torch.from_numpy(attack.generate(x.float().numpy(), nn.functional.one_hot(y, 10).numpy())).double()
    trained.double()
    accuracies = [robust_accuracy(trained, x_adv, y) for x_adv in (ours, theirs, arts)]
    assert max(accuracies) - min(accuracies) <= 4  # different random starts, 128 images


class FoolboxMIM(foolbox.attacks.LinfMomentumIterativeFastGradientMethod):
    """With the l1 norm of eq. 18 where foolbox sums up signs."""

    def normalize(self, gradients: ep.Tensor, **_: object) -> ep.Tensor:
        return normalize_lp_norms(gradients, p=1)


class FoolboxPGD(foolbox.attacks.LinfPGD):
    """From the point where ours starts."""

    def get_random_start(self, x0: ep.Tensor, epsilon: float) -> ep.Tensor:
        generator = torch.Generator().manual_seed(0)
        return x0 + ep.astensor(torch.empty_like(x0.raw).uniform_(-epsilon, epsilon, generator=generator))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("eps", [0.02, 0.05, 0.08, 0.12, 0.2])
def test_robust_accuracy_is_that_of_foolbox(name: str, eps: float, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    others = {
        "mim": FoolboxMIM(rel_stepsize=0.1, steps=10, momentum=1.0, random_start=False),
        "pgd": FoolboxPGD(rel_stepsize=0.25, steps=10, random_start=True),
    }
    theirs = (FOOLBOX | others)[name].run(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), *digits, epsilon=eps)
    ours = ALL[name](trained, *digits, eps, generator=torch.Generator().manual_seed(0))
    # in points; one image of the 128 is 0.8
    assert abs(robust_accuracy(trained, ours, digits[1]) - robust_accuracy(trained, theirs, digits[1])) <= 0.5


def test_pgd_without_its_start_is_bim(trained: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "uniform_", lambda self, *_, **__: self.zero_())
    torch.testing.assert_close(ALL["pgd"](trained, *digits, EPS), bim(trained, *digits, EPS, steps=10, rel_step_size=0.25))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("eps", [0.0, 0.03, 0.5, 5.0])
def test_result_stays_in_the_ball_and_the_image_range(
    name: str, eps: float, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x_adv = ALL[name](trained, *digits, eps)
    assert x_adv.shape == digits[0].shape
    assert x_adv.dtype == digits[0].dtype
    assert (x_adv - digits[0]).abs().max() <= eps + 1e-12
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@pytest.mark.parametrize("name", [*ALL, *CW])
def test_model_and_inputs_are_left_as_they_were(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    check_untouched(lambda m, x, y: (ALL | CW)[name](m, x, y, EPS), trained, digits)


@pytest.mark.parametrize("name", FOOLBOX)
def test_an_image_is_attacked_alike_whatever_it_is_batched_with(
    name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    torch.testing.assert_close(ALL[name](trained, *digits, EPS)[:3], ALL[name](trained, digits[0][:3], digits[1][:3], EPS))


@pytest.mark.parametrize("name", ALL)
def test_negative_eps_is_refused(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"eps must be at least 0, got -0\.1"):
        ALL[name](trained, *digits, -0.1)


@pytest.mark.parametrize("attack", [partial(bim, steps=3, rel_step_size=0.7), partial(mim, steps=3, rel_step_size=0.7, decay=1.0)])
def test_steps_that_reach_out_of_the_ball_are_brought_back(
    attack: Callable[..., Tensor], trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    assert (attack(trained, *digits, EPS) - digits[0]).abs().max() == pytest.approx(EPS)


def test_pgd_starts_uniformly_in_the_ball() -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    nn.init.zeros_(blind[1].weight)  # no gradient, no step: what is left is the start
    x, y = torch.full((500, 1, 8, 8), 0.5, dtype=torch.float64), torch.zeros(500, dtype=torch.int64)
    start = ALL["pgd"](blind, x, y, EPS, generator=torch.Generator().manual_seed(0)) - x
    assert start.abs().max() <= EPS
    assert start.mean().item() == pytest.approx(0, abs=0.01 * EPS)
    assert start.std().item() == pytest.approx(2 * EPS / 12**0.5, rel=0.01)


def test_all_named_attacks_are_tested_here() -> None:
    assert set(ATTACKS) == {*ALL, *CW, "apgd", "apgd_targeted", "fab", "spsa", "square"}  # these in files of their own


def test_pgd_draws_from_the_generator_it_is_given(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    runs = [ALL["pgd"](trained, *digits, EPS, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


COUNTED = {
    **ALL,
    **CW,
    "pgd with early stopping": partial(ALL["pgd"], stop="sample"),
    "apgd": partial(ATTACKS["apgd"], steps=5, restarts=2),
    "apgd_targeted": partial(ATTACKS["apgd_targeted"], steps=5, targets=2, restarts=1),
    "fab": partial(ATTACKS["fab"], steps=5, targets=2, restarts=2),
    "square": partial(ATTACKS["square"], queries=20, p_init=0.8),
    "spsa": partial(ATTACKS["spsa"], queries=4, steps=2, rel_step_size=0.3, rel_radius=0.5),
}


@pytest.mark.parametrize("name", COUNTED)
def test_progress_counts_each_image_once(name: str, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    counts: list[float] = []
    COUNTED[name](trained, *digits, EPS, batch_size=50, done=counts.append)
    assert len(counts) > 1
    assert sum(counts) == pytest.approx(len(digits[0]))


def noise(trained: nn.Module, x: Tensor, y: Tensor, steps: int, stop: str) -> Tensor:
    return mim(trained, x, y, 5.0, steps=steps, rel_step_size=0.01, decay=1.0, stop=stop)


def test_sample_stop_ends_each_image_at_its_first_wrong_prediction(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    stopped = noise(trained, x, y, 40, "sample")
    done = torch.zeros(len(x), dtype=torch.bool)
    for steps in range(1, 40):  # the same path, one step longer each time: what is wrong first is the answer
        so_far = noise(trained, x, y, steps, "never")
        now = ~done & (trained(so_far).argmax(1) != y)
        started_wrong = trained(x).argmax(1) != y
        torch.testing.assert_close(stopped[now & ~started_wrong], so_far[now & ~started_wrong])
        done |= now
    assert done.all()
    torch.testing.assert_close(stopped[trained(x).argmax(1) != y], x[trained(x).argmax(1) != y])


def test_batch_stop_ends_when_all_are_wrong_at_once(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    stopped = noise(trained, x, y, 60, "batch")
    needed = next(steps for steps in range(1, 60) if (trained(noise(trained, x, y, steps, "never")).argmax(1) != y).all())
    torch.testing.assert_close(stopped, noise(trained, x, y, needed, "never"))


def test_mim_leaves_an_image_without_gradient_where_it_is(digits: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    nn.init.zeros_(model[1].weight)
    assert torch.equal(ALL["mim"](model, *digits, EPS), digits[0])


def test_an_attack_ascends_the_objective_it_is_given(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    def towards_three(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = cross_entropy(model, x, torch.full_like(y, 3))
        return -value, logits

    x_adv = bim(trained, *digits, 0.5, steps=20, rel_step_size=0.1, objective=towards_three)
    assert (trained(x_adv).argmax(1) == 3).double().mean() > 0.9
