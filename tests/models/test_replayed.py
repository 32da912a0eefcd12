"""A network's passes as CUDA graphs: the same answers and gradients as without. All but the sizes needs a GPU."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, seeded_resnet
from torch import Tensor, nn

from pipeline.attacks import ATTACKS, steps
from pipeline.attacks.objective import Objective, cross_entropy, dlr, margin
from pipeline.attacks.steps import evaluating
from pipeline.data.digits import sklearn_digits
from pipeline.data.splits import make_splits
from pipeline.evaluation.robustness import Trial, attackable, attacked, progress
from pipeline.jobs.learner import new_learner, on_device, recipe_adversary
from pipeline.models import replayed as module
from pipeline.models.replayed import Recorder, Replayed, filled_size, replayed
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.training.adversary import divergence_from
from pipeline.training.loop import step

GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def full_precision() -> None:
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True


@pytest.mark.parametrize(
    ("count", "largest", "size"),
    [(0, 360, 0), (1, 360, 32), (32, 360, 32), (33, 360, 64), (65, 360, 128), (257, 360, 360), (360, 360, 360), (3, 5, 5)],
)
def test_batches_are_filled_up(count: int, largest: int, size: int) -> None:
    assert filled_size(count, largest) == size


def test_without_a_gpu_nothing_is_recorded() -> None:
    network, cpu = nn.Flatten(), torch.device("cpu")
    assert replayed(network, cpu) is network
    recorder, x = Recorder(lambda x: (2 * x,), differentiable=True), torch.rand(2, 3)
    for _ in range(3):
        assert torch.equal(recorder(x)[0], 2 * x)
    assert not recorder.recordings


def model_on_gpu() -> nn.Module:
    return seeded_resnet().float().eval().to(GPU, memory_format=torch.channels_last)


def gradient(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = model(x)
    return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, logits.argmin(1), reduction="sum"), x)[0]


@needs_gpu
def test_answers_and_gradients_are_those_of_the_network() -> None:
    model = model_on_gpu()
    twin = Replayed(model)
    generator = torch.Generator(GPU).manual_seed(0)
    with evaluating(model):
        for count in (70, 70, 70, 40, 40, 40, 70, 1, 1, 1, 40, 0, 0):
            x = torch.rand(count, 3, 32, 32, device=GPU, generator=generator)
            whole = module._filled(x, filled_size(count, 70))  # another size of batch rounds in another way
            for ours, expected in zip(gradient(twin, x), gradient(model, whole), strict=True):
                assert (ours - expected[:count]).norm() <= 1e-3 * expected.norm()
            with torch.no_grad():
                logits, features = twin.forward_features(x)
                expected_logits, expected_features = model.forward_features(whole)
            everything = [(logits, expected_logits), *((features[name], expected_features[name]) for name in features)]
            for ours, expected in everything:
                assert (ours - expected[:count]).norm() <= 1e-3 * expected.norm()
    assert set(twin.logits.recordings) == {torch.Size([size, 3, 32, 32]) for size in (70, 64, 32)}
    assert all(twin.logits.recordings.values())


@needs_gpu
@pytest.mark.parametrize("objective", [cross_entropy, margin, dlr])
def test_an_objective_is_recorded_with_the_passes(objective: Objective) -> None:
    model = model_on_gpu()
    twin, x, y = Replayed(model), torch.rand(40, 3, 32, 32, device=GPU), torch.arange(40, device=GPU) % 10
    with evaluating(model):
        for count in (40, 40, 40, 5, 5, 5):
            whole = [module._filled(rows[:count], filled_size(count, 40)) for rows in (x, y)]
            for ours, expected in zip(
                steps.gradient(twin, x[:count], y[:count], objective), steps.gradient(model, *whole, objective), strict=True
            ):
                assert ours.shape == expected[:count].shape
                assert (ours - expected[:count]).norm() <= 1e-3 * expected.norm()
    assert {len(shape) for shape in twin.others[objective].recordings} == {4}
    assert all(twin.others[objective].recordings.values())
    assert not twin.logits.recordings


def test_what_hangs_on_more_than_the_model_is_not_recorded_with_the_passes() -> None:
    twin, x, y = Replayed(nn.Flatten()), torch.rand(40, 1, 2, 5), torch.arange(40) % 10
    steps.gradient(twin, x, y, divergence_from(torch.zeros(40, 10)))
    assert not twin.others  # it would be kept for ever
    grad, logits = steps.gradient(twin, x, y, cross_entropy)
    assert list(twin.others) == [cross_entropy]
    for ours, expected in zip((grad, logits), steps.gradient(twin.network, x, y, cross_entropy), strict=True):
        assert torch.equal(ours, expected)


@needs_gpu
def test_what_came_out_stays_and_weights_are_followed_where_they_are() -> None:
    model = model_on_gpu()
    twin, x = Replayed(model), torch.rand(4, 3, 32, 32, device=GPU)
    with evaluating(model), torch.no_grad():
        first = [twin(x) for _ in range(3)][-1]
        kept = first.clone()
        for weight in model.parameters():
            weight.mul_(1.01)
        assert not torch.equal(twin(x), kept)
        assert (twin(x) - model(x)).norm() <= 1e-3 * model(x).norm()
    assert torch.equal(first, kept)


@needs_gpu
def test_a_late_backward_is_an_error() -> None:
    model = model_on_gpu()
    twin, x = Replayed(model), torch.rand(4, 3, 32, 32, device=GPU)
    with evaluating(model):
        for _ in range(3):
            gradient(twin, x)
        first = twin(x.clone().requires_grad_())
        gradient(twin, x)
        with pytest.raises(RuntimeError, match="before the next forward"):
            first.sum().backward()


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "attack",
    [
        partial(ATTACKS["pgd"], steps=5, rel_step_size=0.25, stop="sample"),
        partial(ATTACKS["apgd"], steps=10, restarts=1),
        partial(ATTACKS["fab"], steps=5, targets=3, restarts=1),
        partial(ATTACKS["square"], queries=50, p_init=0.8),
        partial(ATTACKS["cw"], confidence=0.0, learning_rate=0.05, steps=20, binary_search_steps=1),
    ],
)
def test_attacks_break_as_much_on_recordings(
    precision: str, attack: Callable[..., Tensor], trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    model, (x, y) = deepcopy(trained).float().to(GPU), (part.to(GPU) for part in digits)
    x, trial = x.float(), Trial("attack", 0.1, attack, 50)
    left = {}
    for name, victim in (("recorded", attackable(model, x, precision)), ("eager", None)):
        if victim is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("pipeline.evaluation.robustness.replayed", lambda network, device: network)
                victim = attackable(model, x, precision)
        with progress(len(x)) as bar:
            left[name] = int((attacked(victim, x, y, trial, seed=0, bar=bar)[1] == y).sum())
    assert abs(left["recorded"] - left["eager"]) <= (0 if precision == "fp32" else 2)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "method",
    ["softmax_fs", "pcl_deep", "hcp_at", "pcl_trades", "hcp_awp", "ema", "input_gradient", "adp", "atda", "contrastive", "triplet"],
)
def test_training_takes_the_same_steps(method: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, everything = recipe(load_params(ROOT / "params.yaml"), "digits", method), {"train": "all", "test": "all", "seed": 0}
    splits = make_splits(*sklearn_digits(test_fraction=0.2, seed=0), fraction=0.1, seed=0, sample=everything)
    gamma = own.awp.gamma if own.awp else 0.0

    def losses() -> tuple[list[float], Tensor]:
        learner, adversary = new_learner(own, splits, GPU, seed=0), recipe_adversary(own)
        learner.network.train()
        images, labels = on_device(splits.train, GPU)
        found = []
        for number in range(6):
            rows = slice(64 * number, 64 * number + 64)
            found.append(step(learner, images[rows].float() / 255, labels[rows], adversary, precision, gamma)[0].sum().item())
        return found, torch.cat([weight.flatten() for weight in learner.trained()[0].parameters()]).detach()

    recorded, weights = losses()
    monkeypatch.setattr(module.Recorder, "__call__", lambda recorder, *inputs: recorder.work(*inputs))
    eager, expected = losses()
    assert recorded == pytest.approx(eager, rel=1e-3 if precision == "fp32" else 3e-2)
    assert (weights - expected).norm() <= (1e-3 if precision == "fp32" else 3e-2) * expected.norm()
