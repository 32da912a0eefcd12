"""`evaluate`: the verdict on a model of one's own, in a notebook."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

import pipeline.jobs.evaluate
from pipeline.data.array_files import checked_part
from pipeline.jobs.evaluate import Evaluation, evaluate
from pipeline.jobs.threat import eps_of, threat_of

Digits = tuple[Tensor, Tensor]
QUICK = """
extends: {root}/params.yaml
autoattack:
  quick:
    apgd_ce: {{name: apgd, steps: 5, restarts: 1}}
    fab_t: {{name: fab, steps: 3, targets: 2, restarts: 1}}
    square: {{name: square, queries: 20, p_init: 0.8}}
verdict: {{adaptive: {{steps: 3, restarts: 1, targets: 2}}, follow_up: {{queries: 20, draws: 2, steps: 3}}, steps: [1, 3]}}
"""


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(QUICK.format(root=ROOT))
    return str(path)


def judge(model: nn.Module, digits: Digits, params: str, **changed: Any) -> Evaluation:
    options = {"eps": 0.1, "count": 24, "autoattack": "quick", "device": "cpu", "threads": 1, "params": params}
    return evaluate(model, digits[0], digits[1], **{**options, **changed})


@pytest.fixture(scope="module")
def found(trained_once: nn.Module, digits: Digits, params: str) -> Evaluation:
    return judge(trained_once, digits, params)


def test_outcomes_are_those_of_the_model(found: Evaluation, trained: nn.Module, digits: Digits) -> None:
    rows = found.outcomes
    clean = rows[rows.attack == "clean"]
    assert (clean.prediction.to_numpy() == trained(digits[0][:24]).argmax(1).numpy()).all()
    assert {"fgsm", "pgd", "steps/3", "unbounded", "adaptive/features", "autoattack/square"} <= set(rows.attack)
    inside = rows[~rows.attack.isin(["unbounded"])]
    assert (inside.linf <= inside.eps + 1e-6).all()
    worst = rows[rows.attack == "autoattack"].correct.mean()
    assert found.accuracy["accuracy/autoattack_0.1"] == pytest.approx(100 * worst)
    assert worst < clean.correct.mean()
    assert set(found.checks) >= {"zero_gradient", "random_forward", "images"}
    assert all(finding.text for finding in found.findings)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_the_papers_attacks_have_their_own_eps(found: Evaluation, trained: nn.Module, digits: Digits, eps: float) -> None:
    x, y = digits[0][:24].clone().requires_grad_(), digits[1][:24]
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(trained(x), y, reduction="sum"), x)
    by_hand = (x + eps * gradient.sign()).clamp(0, 1).detach()
    rows = found.outcomes[found.outcomes.eps == eps].groupby("attack")
    for attack in ("fgsm", "bim", "mim", "pgd"):
        assert rows.get_group(attack).linf.max() == pytest.approx(eps, rel=1e-4), attack
    assert (rows.get_group("fgsm").prediction.to_numpy() == trained(by_hand).argmax(1).numpy()).all()


def test_the_model_stays_as_it_is(trained: nn.Module, digits: Digits, params: str) -> None:
    trained.train()
    before = copy.deepcopy(trained.state_dict())
    judge(trained, digits, params, count=4)
    assert trained.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_arrays_and_uint8_and_a_written_eps_give_the_same(
    found: Evaluation, trained: nn.Module, digits: Digits, params: str
) -> None:
    pixels = (digits[0] * 255).round().to(torch.uint8).numpy()
    rounded = torch.from_numpy(pixels).double() / 255
    by_tensor, by_array = (
        judge(trained, (x, y), params, eps="1/10") for x, y in ((rounded, digits[1]), (pixels, digits[1].numpy()))
    )
    columns = ["image", "attack", "correct", "prediction"]
    assert by_tensor.outcomes[columns].equals(by_array.outcomes[columns])
    assert abs(by_tensor.accuracy["accuracy/autoattack_0.1"] - found.accuracy["accuracy/autoattack_0.1"]) <= 9


def test_l2(trained: nn.Module, digits: Digits, params: str) -> None:
    rows = judge(trained, digits, params, norm="l2", eps=0.5).outcomes
    inside = rows[rows.attack.str.startswith(("autoattack", "adaptive"))]
    assert (inside.l2 <= 0.5 + 1e-5).all()
    assert inside.l2.max() > 0.45
    assert "pgd" not in set(rows.attack)


def test_features_of_named_layers_and_class_means_of_training_images(trained: nn.Module, digits: Digits, params: str) -> None:
    train = (digits[0][64:], digits[1][64:])
    by_layer = judge(trained, digits, params, features=["3", "5"], train=train, count=12)
    assert "64 training images on 3, 5" in by_layer.findings[-1].text
    assert by_layer.features["3"].shape == (12, 16) if "3" in by_layer.features else by_layer.features["5"].shape == (12, 144)
    by_logits = judge(trained, digits, params, count=2)
    assert "there are no class means to go by" in by_logits.findings[-1].text
    assert "adaptive/features" not in set(by_logits.outcomes.attack)


def test_class_means_are_over_every_class_however_rare(trained: nn.Module, digits: Digits, params: str) -> None:
    """600 training images, of which 1 has a 9: the 500 that are taken in proportion need not have it."""
    x, y = digits
    nines = (y == 9).nonzero()[:, 0]
    others = (y != 9).nonzero()[:, 0].repeat(10)[:599]
    chosen = torch.cat([others, nines[:1]])
    for seed in range(3):
        note = judge(trained, digits, params, train=(x[chosen], y[chosen]), count=1, seed=seed).findings[-1].text
        assert "class means of 50" in note, note


def test_work_is_kept_by_all_that_it_follows_from(
    trained: nn.Module, digits: Digits, params: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tmp_path / "params.yaml"
    more.write_text(QUICK.format(root=ROOT).replace("queries: 20, draws", "queries: 21, draws"))
    train = (digits[0][64:], digits[1][64:])
    runs = [{}, {"params": str(more)}, {"train": train}, {"train": (train[0].flip(3), train[1])}]
    keys = [judge(trained, digits, **{"params": params, "count": 1, **changed}).about["key"] for changed in runs]
    for images, labels in ((digits[0].flip(3), digits[1]), (digits[0], (digits[1] + 1) % 10)):
        keys.append(judge(trained, (images, labels), params, count=1, train=train, force=True).about["key"])
    monkeypatch.setattr(pipeline.jobs.evaluate, "code_digest", lambda file: "changed")
    keys.append(judge(trained, digits, params, count=1).about["key"])
    assert len(set(keys)) == len(keys) == 7


def test_what_cannot_have_been_meant_stops_unless_forced(trained: nn.Module, digits: Digits, params: str) -> None:
    ended = nn.Sequential(trained, nn.Softmax(1))
    with pytest.raises(ValueError, match=r"returns probabilities.*remove the final softmax.*force=True"):
        judge(ended, digits, params)
    assert "outputs" in {finding.name for finding in judge(ended, digits, params, force=True, count=2).findings}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eps": "8:255"}, "eps must be a number above 0, as 0.03 or 8/255"),
        ({"eps": 8}, "eps must be below 1 in l-inf"),
        ({"norm": "l1"}, "norm must be one of linf, l2"),
        ({"autoattack": "plus"}, "autoattack must be one of standard, rapid, quick"),
        ({"mean": [0.5]}, "mean and std go together"),
        ({"mean": [0.5, 0.5, 0.5], "std": [1.0]}, "mean and std need 1 or 1 numbers"),
        ({"features": ["head"]}, "no layer head"),
        ({"eps": "1e400"}, "eps must be a number above 0"),
        ({"device": "cuda:1"}, "device must be one of auto, cpu, cuda, got 'cuda:1'"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, got 'fp16'"),
        ({"count": -190}, "count must be a whole number from 1 on"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on"),
        ({"threads": -1}, "threads must be a whole number from 0 on"),
        ({"seed": 2**70}, "seed must be a whole number from 0 on"),
        ({"train": (torch.zeros(4, 3, 8, 8), torch.arange(4))}, r"train: images are \(3, 8, 8\) .C, H, W., those to judge on"),
    ],
)
def test_wrong_settings_are_one_line(
    changed: dict[str, Any], message: str, trained: nn.Module, digits: Digits, params: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        judge(trained, digits, params, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mean", [0.5, np.array([0.5]), torch.full((1, 1, 1, 1), 0.5, requires_grad=True)])
def test_a_mean_may_be_a_number_an_array_or_a_tensor(mean: Any, trained: nn.Module, digits: Digits, params: str) -> None:
    found = judge(trained, digits, params, mean=mean, std=[1.0], force=True, count=2)
    assert (found.about["mean"], found.about["std"]) == ([0.5], [1.0])


def test_models_that_were_just_used(digits: Digits, params: str) -> None:
    """weight_norm keeps a tensor of its last forward, which cannot be copied; what TorchScript copies must be leaves."""
    x = digits[0][:2].float() / 255
    normed = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 10)))
    normed(x)
    with pytest.raises(ValueError, match=r"holds tensors of its last forward: call it once under torch\.no_grad\(\)"):
        judge(normed, digits, params, force=True)
    with torch.no_grad():
        normed(x)
    traced = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), x)
    for model in (normed, traced):
        assert judge(model, digits, params, force=True, count=2).about["images"] == 2


def test_strengths_as_they_are_written() -> None:
    assert eps_of("8/255") == 8 / 255
    assert eps_of(" 0.5 ") == eps_of(0.5) == 0.5
    image = torch.zeros(1, 8, 8)
    assert threat_of("l2", 0.8, "rapid", None).linf(image) == pytest.approx(0.1)  # a corner of that ball has length 0.8


def test_images_of_other_shapes_and_ranges() -> None:
    labels = np.arange(4)
    assert checked_part(np.zeros((4, 8, 8, 3), np.uint8), labels, "x").images.shape == (4, 3, 8, 8)
    assert checked_part(np.zeros((4, 8, 8)), labels, "x").images.shape == (4, 1, 8, 8)
    for images, given, message in (
        (np.arange(256.0).reshape(4, 1, 8, 8), labels, "got 0 to 255; divide them by 255"),
        (257 * np.arange(256.0).reshape(4, 1, 8, 8), labels, "divide them by 65535"),
        (np.full((4, 1, 8, 8), 1.5), labels, r"got 1\.5 to 1\.5$"),
        (np.full((4, 1, 8, 8), np.nan), labels, "leave out those with numbers that are not finite"),
        (np.full((4, 1, 8, 8), -0.5), labels, "undo their normalisation"),
        (np.zeros((4, 64)), labels, r"must be \(N, C, H, W\)"),
        (np.zeros((4, 1, 8, 8)), labels[:3], "labels must be 4 whole numbers"),
        (np.zeros((4, 1, 8, 8)), labels / 2, "labels must be 4 whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_part(images, given, "x")
    rounded = checked_part(np.linspace(-3e-8, 1 + 2e-7, 256).reshape(4, 1, 8, 8), labels, "x").images
    assert (rounded.min(), rounded.max()) == (0, 1)  # as a normalisation that is undone, or bilinear resizing, leaves them
