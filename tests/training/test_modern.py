"""TRADES, adversarial weight perturbation, averaged weights and the choice of the epoch against formulas written out."""

import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import Generator, Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.data.batches import to_float, training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.data.sources import SOURCES
from pipeline.data.splits import channel_statistics
from pipeline.evaluation.accuracy import accuracy
from pipeline.evaluation.robustness import predict
from pipeline.jobs.learner import new_learner, train, validation
from pipeline.losses.hcp import HCP
from pipeline.models.network import Network
from pipeline.models.small_cnn import SmallCNN
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.runtime.checkpoint import load_state, save_state
from pipeline.training.adversary import clean_only, mixed_with_attacked
from pipeline.training.awp import perturbed
from pipeline.training.criterion import build_criterion
from pipeline.training.ema import MovingAverage
from pipeline.training.loop import best_row, fit, step
from pipeline.training.optimizer import build_optimizer
from pipeline.training.state import Learner, Row
from pipeline.training.trades import divergence

CPU = torch.device("cpu")
NETWORK = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "milestones": [0.5], "gamma": 0.1}
PROTOTYPES = {"lr": 0.02, "momentum": 0.0, "weight_decay": 0.0, "milestones": [], "gamma": 0.1}
HCP_WEIGHTS = {"margin": 1.0, "proximity": 1.0, "negative": 1.0, "c": 0.0, "e": 0.001}
SOFT = {"attack": partial(pgd, steps=2, rel_step_size=0.5), "eps_range": (0.1, 0.1), "clean_share": 0.25, "labels": "soft"}
HARD = {**SOFT, "clean_share": 0.0, "labels": "true"}


class Killed(BaseException):
    """Stands for the signal that ends a process in the middle of an epoch."""


def new_model(**changes: Any) -> Learner:
    """A small network with batch norm and with HCP on two layers."""
    torch.manual_seed(3)
    network = SmallCNN(10, torch.tensor([0.3]), torch.tensor([0.4]), widths=[8, 8, 8, 16], branch=6, penultimate=12)
    loss = partial(HCP, **HCP_WEIGHTS, distance="euclidean", reduction="sum", centre_init="uniform")
    settings = {"layers": ["layer4", "layer5"], "auxiliary": [], "cross_entropy": 1.0, "input_gradient": 0.0, "trades": 0.0}
    criterion = build_criterion(loss, name="hcp", dims=network.dims, classes=10, **{**settings, **changes})
    groups = {"centres": PROTOTYPES, "radii": PROTOTYPES}
    optimizer = build_optimizer(network.parameters(), criterion.prototypes(), NETWORK, groups)
    return Learner(network, criterion, optimizer, Generator().manual_seed(5))


def brightened(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """An adversary that no rounding moves: beside an image the divergence is so flat that in float32 its slope's sign is chance."""
    weight = torch.tensor([0.25] * len(x) + [0.75] * len(x)) / len(x)
    return torch.cat([x, (x + 0.2).clamp(max=1)]), torch.cat([y, y]), weight


def copies(*modules: nn.Module) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# TRADES


def test_the_divergence_is_the_mean_of_p_log_p_over_q_and_its_gradient_that_of_differences() -> None:
    """Two classes, p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2; the other way round it is another number."""
    p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    torch.testing.assert_close(divergence(p, q), torch.tensor([0.130812]), rtol=1e-5, atol=0)
    torch.testing.assert_close(divergence(q, p), torch.tensor([0.143841]), rtol=1e-5, atol=0)
    generator = Generator().manual_seed(0)
    clean, attacked = (torch.randn(6, 4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    reference = F.kl_div(attacked.log_softmax(1), clean.softmax(1), reduction="batchmean")
    torch.testing.assert_close(divergence(clean, attacked).mean(), reference)
    assert torch.autograd.gradcheck(divergence, (clean, attacked))  # of both


def test_the_divergence_of_bf16_logits_is_that_of_their_values() -> None:
    """Under autocast logits are bf16, and its softmax has two or three digits."""
    clean = torch.tensor([[4.0, 1.0, -2.0]], dtype=torch.bfloat16)
    attacked = torch.tensor([[3.75, 1.25, -2.0]], dtype=torch.bfloat16)
    expected = divergence(clean.double(), attacked.double())
    torch.testing.assert_close(divergence(clean, attacked), expected.float(), rtol=1e-4, atol=0)


def test_trades_is_the_mean_cross_entropy_of_the_clean_half_and_beta_times_the_mean_divergence(
    digits: tuple[Tensor, Tensor],
) -> None:
    """Whatever the clean share, which weighs the prototype loss on both halves alone."""
    learner = new_model(trades=6.0, cross_entropy=0.5)
    x, y = digits[0][:8].float(), digits[1][:8]
    for share in (0.25, 0.7):
        adversary = partial(mixed_with_attacked, **{**SOFT, "clean_share": share})
        images, labels, weight = adversary(learner.network, x, y, Generator().manual_seed(0))
        logits, features = learner.network.forward_features(images)
        terms = learner.criterion(images, logits, features, labels, weight)
        assert list(terms) == learner.criterion.terms == ["ce", "trades", "hcp[layer4]", "hcp[layer5]"]
        torch.testing.assert_close(terms["ce"], 0.5 * F.cross_entropy(logits[:8], y))
        reference = F.kl_div(logits[8:].log_softmax(1), logits[:8].softmax(1), reduction="batchmean")
        torch.testing.assert_close(terms["trades"], 6 * reference)
        hcp = learner.criterion.losses["layer5"](features["layer5"], labels)
        torch.testing.assert_close(terms["hcp[layer5]"], share * hcp[:8].mean() + (1 - share) * hcp[8:].mean())
    with pytest.raises(ValueError, match="trades: the batch must be clean images and then as many attacked ones, got 7 images"):
        learner.criterion(images[:7], logits[:7], {name: f[:7] for name, f in features.items()}, labels[:7], weight[:7])


def test_a_trades_step_equals_plain_torch(digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:16].float(), digits[1][:16]
    ours, theirs = new_model(trades=3.0), new_model()
    optimizer = torch.optim.SGD(
        [{"params": list(theirs.network.parameters()), "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
         {"params": list(theirs.criterion.parameters()), "lr": 0.02}]
    )  # fmt: skip
    step(ours, x, y, brightened, "fp32", 0.0)
    logits, features = theirs.network.forward_features(torch.cat([x, (x + 0.2).clamp(max=1)]))
    kl = (logits[:16].softmax(1) * (logits[:16].log_softmax(1) - logits[16:].log_softmax(1))).sum(1).mean()
    hcp: Any = [theirs.criterion.losses[name](features[name], torch.cat([y, y])) for name in ("layer4", "layer5")]
    (F.cross_entropy(logits[:16], y) + 3 * kl + sum(0.25 * v[:16].mean() + 0.75 * v[16:].mean() for v in hcp)).backward()
    optimizer.step()
    for one, other in zip(copies(ours.network, ours.criterion), copies(theirs.network, theirs.criterion), strict=True):
        torch.testing.assert_close(one, other)


def trades_noise(x: Tensor) -> Tensor:
    """What the generator of `new_model` gives after the draw of eps."""
    generator = Generator().manual_seed(5)
    torch.rand(1, generator=generator)
    return 0.001 * torch.empty_like(x).normal_(generator=generator)


def trades_attack(network: nn.Module, x: Tensor, eps: float, *, step_size: float, steps: int, noise: Tensor) -> Tensor:
    """Algorithm 1 of arXiv:1901.08573 written out: sign steps up the divergence, projected on ball and image range."""
    network.eval()
    p = network(x).softmax(1).detach()
    x_adv = (x + noise).clamp(0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        F.kl_div(network(x_adv).log_softmax(1), p, reduction="sum").backward()
        assert x_adv.grad is not None
        x_adv = (x + (x_adv + step_size * x_adv.grad.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    network.train()
    network.zero_grad()
    return x_adv.detach()


def test_the_attack_of_trades_climbs_the_divergence_from_beside_the_image(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:32], digits[1][:32]
    adversary = partial(mixed_with_attacked, **{**SOFT, "attack": partial(pgd, steps=5, rel_step_size=0.25)})
    trained.train()  # as in the loop; what is predicted, and the attack, are of the model as it is used
    before = copies(trained)
    batches = [adversary(trained, x, labels, Generator().manual_seed(5))[0] for labels in (y, (y + 1) % 10)]
    assert same(copies(trained), before)
    assert torch.equal(batches[0], batches[1])  # the label plays no part
    assert torch.equal(batches[0][:32], x)
    expected = trades_attack(trained, x, 0.1, step_size=0.025, steps=5, noise=trades_noise(x))
    torch.testing.assert_close(batches[0][32:], expected)
    start = pgd(trained, x, y, 0.1, steps=1, rel_step_size=1e-9, start="gaussian", generator=Generator().manual_seed(0)) - x
    inside = start[(x > 0) & (x < 1)]  # where nothing is cut off
    assert inside.std().item() == pytest.approx(0.001, rel=0.1)
    assert inside.mean().abs().item() < 1e-4


# Adversarial weight perturbation


class Linear(Network):
    """z = W x + b, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2).double()
        self.unused = nn.Linear(4, 2).double()  # as a branch without a loss
        self.dims = {"layer5": 2}

    def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.linear(x.flatten(1))
        return z, {"layer5": z}


def linear_case() -> tuple[Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return Linear(), torch.rand(5, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])


def test_the_perturbed_weights_are_those_of_the_closed_form_and_come_back_bit_by_bit() -> None:
    """d CE / d W = (p - onehot)^T x / B."""
    network, x, y = linear_case()
    before, weight = copies(network), network.linear.weight.detach().clone()
    p = network(x).softmax(1).detach() - F.one_hot(y, 2)
    g = p.T @ x.flatten(1) / 5
    expected = weight + 0.3 * weight.norm() * g / g.norm()
    plain = F.cross_entropy(network(x), y)
    with perturbed(network, lambda: F.cross_entropy(network(x), y), 0.3):
        torch.testing.assert_close(network.linear.weight.detach(), expected)
        assert (network.linear.weight - weight).norm().item() == pytest.approx(0.3 * weight.norm().item())
        assert same(copies(network)[1:], before[1:])  # the bias, and what the loss does not depend on
        assert F.cross_entropy(network(x), y) > plain
    assert same(copies(network), before)
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(Killed), perturbed(network, lambda: F.cross_entropy(network(x), y), 0.3):
        raise Killed
    assert same(copies(network), before)


def test_an_awp_step_goes_along_the_gradient_at_the_perturbed_weights(digits: tuple[Tensor, Tensor]) -> None:
    """Of the whole loss, prototypes unperturbed, batch norm moved by the second pass alone."""
    x, y = digits[0][:16].float(), digits[1][:16]
    ours, theirs = new_model(trades=6.0), new_model(trades=6.0)
    values, _ = step(ours, x, y, brightened, "fp32", 0.02)
    images, labels, weight = brightened(theirs.network, x, y, theirs.generator)

    def loss(network: Network) -> Tensor:
        logits, features = network.forward_features(images)
        return sum(theirs.criterion(images, logits, features, labels, weight).values(), start=torch.zeros(()))

    proxy = copy.deepcopy(theirs.network)  # as the authors': a copy takes the step up
    loss(proxy).backward()
    moved = copy.deepcopy(theirs.network)
    with torch.no_grad():
        for w, at in zip(moved.parameters(), proxy.parameters(), strict=True):
            if w.ndim > 1 and at.grad is not None:
                w.add_(0.02 * w.norm() * at.grad / at.grad.norm())
    theirs.optimizer.zero_grad()
    value = loss(moved)
    value.backward()
    for w, at in zip(theirs.network.parameters(), moved.parameters(), strict=True):
        w.grad = at.grad
    theirs.optimizer.step()
    assert values.sum().item() == pytest.approx(value.item(), rel=1e-5)
    assert value > loss(copy.deepcopy(theirs.network))
    for one, other in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(copies(ours.criterion), copies(theirs.criterion), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(ours.network.buffers(), moved.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_without_gamma_there_is_no_perturbation_and_with_a_tiny_one_almost_none(digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:16].float(), digits[1][:16]
    states = {}
    for gamma in (0.0, 1e-7, 0.05):
        learner = new_model()
        step(learner, x, y, clean_only, "fp32", gamma)
        states[gamma] = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
    torch.testing.assert_close(states[1e-7], states[0.0])
    assert (states[0.05] - states[0.0]).norm() > 1e3 * (states[1e-7] - states[0.0]).norm()


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 1), (0.5, 3), (3, 4), (4, 5)])
def test_the_perturbation_begins_after_the_warm_up(
    warmup: float, first: int, digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    without = run_fit(digits, tmp_path / "a.pt", awp=None)[1]
    rows = run_fit(digits, tmp_path / "b.pt", awp={"gamma": 0.05, "warmup": warmup})[1]
    differ = [row["epoch"] for row, plain in zip(rows, without, strict=True) if row["loss"] != plain["loss"]]
    assert differ == list(range(first, 5))


# Averages and the choice of the epoch


def test_the_average_follows_the_recursion_written_out() -> None:
    """In numpy: a = w after the first step, then a <- d a + (1 - d) w, d = min(decay, (1 + n) / (10 + n)); also for prototypes and
    the statistics of batch norm."""
    learner = new_model()
    average = MovingAverage(learner.network, learner.criterion, 0.25)
    expected: dict[str, Any] = {}
    for n in range(6):
        with torch.no_grad():
            for parameter in [*learner.network.parameters(), *learner.criterion.parameters()]:
                parameter.add_(torch.randn_like(parameter))
        learner.network.train()(torch.rand(8, 1, 8, 8))  # moves the statistics of batch norm
        average.update(learner.network, learner.criterion)
        d = 0.0 if n == 0 else min(0.25, (1 + n) / (10 + n))  # 2/11, 3/12, then the decay
        latest = {f"network.{name}": value for name, value in learner.network.state_dict().items()}
        latest |= {f"criterion.{name}": value for name, value in learner.criterion.state_dict().items()}
        for name, value in latest.items():
            new = value.double().numpy()
            expected[name] = new.copy() if name.endswith("num_batches_tracked") or n == 0 else d * expected[name] + (1 - d) * new
    got = average.module.state_dict()
    assert got.keys() == expected.keys()
    assert any("running_var" in name for name in got)
    for name, value in expected.items():
        torch.testing.assert_close(got[name].double(), torch.as_tensor(value).double(), rtol=1e-5, atol=1e-6)


def test_every_step_moves_the_average_and_that_is_what_is_kept(digits: tuple[Tensor, Tensor]) -> None:
    learner = new_model()
    learner.average = MovingAverage(learner.network, learner.criterion, 0.9)
    states = []
    for _ in range(2):
        step(learner, digits[0][:16].float(), digits[1][:16], clean_only, "fp32", 0.0)
        states.append(copies(learner.network, learner.criterion))
    learner.keep_as_best()
    kept = [*learner.kept()["network"].values(), *learner.kept()["criterion"].values()]
    assert same(kept, copies(*learner.trained()))
    assert same(copies(learner.network, learner.criterion), states[1])  # training goes on from its own weights
    for average, first, second in zip(kept, *states, strict=True):
        if first.is_floating_point():  # decay 2/11
            torch.testing.assert_close(average, 2 / 11 * first + 9 / 11 * second)
    assert not same(kept, states[1])


def test_the_epoch_with_the_best_validation_is_kept(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """By the robust accuracy, then the clean one, then the later; as it was then, whatever comes after."""
    script = [(90.0, 40.0), (95.0, 60.0), (97.0, 60.0), (97.0, 60.0), (99.0, 59.9), (99.0, 10.0)]
    rows: list[Row] = [{"epoch": e, "validation_accuracy": c, "validation_robust": r} for e, (c, r) in enumerate(script, 1)]
    assert [best_row(rows[:n])["epoch"] for n in range(1, 7)] == [1, 2, 3, 4, 4, 4]
    clean = [{"epoch": e, "validation_accuracy": c} for e, (c, _) in enumerate(script, 1)]
    assert [best_row(clean[:n])["epoch"] for n in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    seen: list[list[Tensor]] = []
    learner, rows = run_fit(digits, tmp_path / "a.pt", keep="best", script=script[2:], seen=seen)
    assert [row["validation_robust"] for row in rows] == [60.0, 60.0, 59.9, 10.0]
    kept = learner.kept()
    assert same([*kept["network"].values(), *kept["criterion"].values()], seen[1])
    assert not same(seen[1], seen[3])
    last, _ = run_fit(digits, tmp_path / "b.pt", keep="last", script=script[2:])
    assert same([*last.kept()["network"].values(), *last.kept()["criterion"].values()], seen[3])


def test_validation_is_of_the_averages_and_its_attack_the_same_every_time() -> None:
    params, splits = load_params(ROOT / "params.yaml", LOOKUPS), digits_splits()
    own = recipe(params, "digits", "ema")
    learner = new_learner(own, splits, CPU, 0)
    assert learner.average is not None
    with torch.no_grad():
        for parameter in learner.network.parameters():  # what is learnt now is useless, the average is not touched
            parameter.zero_()
    validate = validation(learner, own, splits)
    state = learner.generator.get_state()
    row = validate(False)
    assert row == validate(True)
    assert torch.equal(state, learner.generator.get_state())
    network = learner.average.module["network"]
    images, labels = torch.from_numpy(splits.validation.images), torch.from_numpy(splits.validation.labels)
    assert row["validation_accuracy"] == accuracy(network, images, labels, batch_size=144)
    generator = Generator().manual_seed(0)
    parts = zip(to_float(images).split(64), labels.split(64), strict=True)
    x_adv = [pgd(network, x, y, 0.15, steps=10, rel_step_size=0.25, generator=generator) for x, y in parts]
    right = predict(network, torch.cat(x_adv), batch_size=64) == labels
    assert row["validation_robust"] == pytest.approx(100 * right.double().mean().item())
    at = recipe(params, "digits", "at")  # eps from 0.05 to 0.25; the last epoch is kept
    validate = validation(learner, at, splits)
    assert validate(False) == {"validation_accuracy": row["validation_accuracy"]}
    assert validate(True) == row
    plain = recipe(params, "digits", "softmax_fs")
    assert validation(learner, plain, splits)(True).keys() == {"validation_accuracy"}


# Killed and resumed, and the real thing


def run_fit(
    digits: tuple[Tensor, Tensor],
    checkpoint: Path,
    *,
    trades: float = 0.0,
    awp: dict[str, float] | None = None,
    ema: float = 0.0,
    keep: Any = "last",
    script: list[tuple[float, float]] | None = None,
    seen: list[list[Tensor]] | None = None,
    kill_in_epoch: int | None = None,
) -> tuple[Learner, list[Row]]:
    """Four epochs. script: (clean, robust) accuracy that validation says, by epoch; seen: the state that it saw."""
    learner = new_model(trades=trades)
    if ema:
        learner.average = MovingAverage(learner.network, learner.criterion, ema)
    images, labels = (digits[0] * 255).to(torch.uint8), digits[1]
    calls = iter(range(1, 100))

    def batches(generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = next(calls)
        for number, batch in enumerate(training_batches(images, labels, generator, batch_size=32, pad=1, flip=False)):
            if epoch == kill_in_epoch and number == 2:
                raise Killed
            yield batch

    said = iter(script or [])

    def validate(last: bool) -> Row:
        if seen is not None:
            seen.append(copies(*learner.trained()))
        clean = accuracy(learner.trained()[0], images, labels, batch_size=64)
        if script is None:
            return {"validation_accuracy": clean}
        return dict(zip(("validation_accuracy", "validation_robust"), next(said), strict=True))

    rows = fit(
        learner,
        batches=batches,
        images=len(images),
        epochs=4,
        adversary=partial(mixed_with_attacked, **(SOFT if trades else HARD)),
        precision="fp32",
        awp=awp,
        validate=validate,
        keep=keep,
        checkpoint=checkpoint,
        params={},
        on_epoch=lambda row, rate: None,
    )
    return learner, rows


@pytest.mark.parametrize(
    "options",
    [
        {"trades": 6.0, "awp": {"gamma": 0.02, "warmup": 0.5}},
        {"ema": 0.9},
        {"ema": 0.9, "keep": "best"},
        {"keep": "best", "script": [(90.0, 50.0), (90.0, 60.0), (90.0, 40.0), (90.0, 40.0)]},
    ],
)
def test_a_killed_run_goes_on_and_keeps_the_same_bytes(
    options: dict[str, Any], digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    straight, rows = run_fit(digits, tmp_path / "straight.pt", **options)
    with pytest.raises(Killed):
        run_fit(digits, tmp_path / "killed.pt", **options, kill_in_epoch=3)
    assert len(load_state(tmp_path / "killed.pt")["rows"]) == 2
    if "script" in options:
        options = {**options, "script": options["script"][2:]}  # the best epoch was before the kill
    resumed, resumed_rows = run_fit(digits, tmp_path / "killed.pt", **options)
    assert resumed_rows == rows
    for name, learner in {"a": straight, "b": resumed}.items():
        save_state(tmp_path / f"{name}.model", {**learner.kept(), "live": learner.network.state_dict()})
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    finished, finished_rows = run_fit(digits, tmp_path / "killed.pt", **options)  # killed after the last epoch: nothing to train
    assert finished_rows == rows
    save_state(tmp_path / "c.model", {**finished.kept(), "live": finished.network.state_dict()})
    assert (tmp_path / "c.model").read_bytes() == (tmp_path / "a.model").read_bytes()
    assert straight.criterion.terms == [*(["ce", "trades"] if "trades" in options else ["ce"]), "hcp[layer4]", "hcp[layer5]"]


def digits_splits() -> Splits:
    """600 digits to train on, 200 to look at; the test split is not."""
    everything, _, classes = SOURCES["sklearn_digits"](test_fraction=0.2, seed=0)
    train, validation = (ImageSet(everything.images[at], everything.labels[at]) for at in (slice(0, 600), slice(600, 800)))
    return Splits(train, validation, validation, classes, *channel_statistics(train.images))


def test_trades_and_awp_are_robust_where_the_softmax_model_is_not(tmp_path: Path) -> None:
    """Short trainings on real digits by what params.yaml says, with a smaller network, eps and attack."""
    training = {"epochs": {"pretrain": 15, "train": 6}, "adversary_eps": {"fixed": [0.1, 0.1]}}
    network = {"widths": [16, 16, 32, 32], "branch": 16, "penultimate": 32}
    attack = {"adversary": {"attack": {"steps": 5, "rel_step_size": 0.5}}}
    small = {
        "extends": str(ROOT / "params.yaml"),
        "datasets": {"digits": {"training": training, "networks": {"main": network}}},
        "methods": {"trades": attack, "awp": attack},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(small))
    params, splits, reached = load_params(tmp_path / "params.yaml", LOOKUPS), digits_splits(), {}
    images, labels = torch.from_numpy(splits.validation.images), torch.from_numpy(splits.validation.labels)
    for name in ("softmax", "trades", "awp"):
        own = recipe(params, "digits", name)
        learner = new_learner(own, splits, CPU, 0)
        if own.init == "softmax":
            learner.network.load_state_dict(load_state(tmp_path / "softmax.pt")["network"])
        settings: Any = {"precision": "fp32", "checkpoint": tmp_path / f"{name}.pt", "params": {}}
        train(learner, own, splits, **settings, on_epoch=lambda row, rate: None)
        attack = partial(pgd, eps=0.1, steps=10, rel_step_size=0.25, generator=Generator().manual_seed(0))
        reached[name] = accuracy(learner.network, images, labels, batch_size=200, attack=attack)
    assert min(reached["trades"], reached["awp"]) > reached["softmax"] + 20, reached
