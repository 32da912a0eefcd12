"""What is measured of attacks, against closed forms on a linear model."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator, Tensor, nn

from pipeline.attacks.bim import bim
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.mim import mim
from pipeline.attacks.pgd import pgd
from pipeline.evaluation.accuracy import accuracy
from pipeline.evaluation.robustness import (
    BATCHES_AT_ONCE,
    Made,
    Victim,
    attackable,
    clean_features,
    measure,
    noise_trials,
    summary_metrics,
    trials,
)
from pipeline.jobs.trials import attacked_once
from pipeline.models.small_cnn import SmallCNN


class Linear(nn.Module):
    """Logits (-m, m) with m = w x + b: an attack of size eps lowers the margin by exactly eps |w|_1 where no pixel is clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 16, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        m = x.flatten(1) @ self.w + self.b
        return torch.stack([-m, m], dim=1)

    def margin(self, x: Tensor, y: Tensor) -> Tensor:
        return ((x.flatten(1) @ self.w + self.b) * (2 * y - 1)).detach()


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """60 images well inside [0, 1] and labels of which some are wrong."""
    generator = torch.Generator().manual_seed(0)
    x = 0.35 + 0.3 * torch.rand(60, 1, 4, 4, dtype=torch.float64, generator=generator)
    return x, (torch.rand(60, generator=generator) < 0.5).long()


@pytest.mark.parametrize("eps", [0.01, 0.02, 0.04])
def test_robust_accuracy_is_the_closed_form_of_a_linear_model(eps: float, images: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = Linear(), images
    attacks = {"fgsm": fgsm, "bim": partial(bim, steps=10, rel_step_size=0.1), "pgd": partial(pgd, steps=10, rel_step_size=0.25)}
    outcomes, _ = measure(attackable(model, x), x, y, trials(attacks, [eps], 25), seed=0, keep=0)
    robust = (model.margin(x, y) > eps * model.w.abs().sum()).numpy()
    assert 0 < robust.sum() < 60
    for name in attacks:
        rows = outcomes[outcomes.attack == name]
        assert (rows.correct.to_numpy() == robust).all()
        assert rows.linf.to_numpy() == pytest.approx(eps)
        assert rows.mse.to_numpy() == pytest.approx(eps**2)
        assert rows.l2.to_numpy() == pytest.approx(4 * eps)
    clean = outcomes[outcomes.attack == "clean"]
    assert (clean.correct.to_numpy() == (model.margin(x, y) > 0).numpy()).all()
    assert (clean.image.to_numpy() == np.arange(60)).all()
    assert (clean.label.to_numpy() == y.numpy()).all()


def test_noise_is_the_number_of_steps_that_the_margin_takes(images: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = Linear(), images
    plan = noise_trials(mim, eps=1.0, steps=100, rel_step_size=0.002, decay=1.0, stop=["sample", "batch"], batch_size=60)
    outcomes, _ = measure(attackable(model, x), x, y, plan, seed=0, keep=0)
    steps = torch.ceil(model.margin(x, y).clamp(min=0) / (0.002 * model.w.detach().abs().sum()))
    sample, batch = (outcomes[outcomes.attack == f"noise_{rule}"] for rule in ("sample", "batch"))
    assert sample.mse.to_numpy() == pytest.approx(((steps * 0.002) ** 2).numpy(), abs=1e-9)
    assert batch.mse.to_numpy() == pytest.approx(float((steps.max() * 0.002) ** 2))
    assert not outcomes[outcomes.attack != "clean"].correct.any()


def test_another_attack_changes_no_other_and_the_seed_decides(images: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = Linear(), images
    one, two = partial(pgd, steps=1, rel_step_size=0.1), partial(pgd, steps=2, rel_step_size=0.1)
    alone = measure(attackable(model, x), x, y, trials({"one": one}, [0.1], 25), seed=0, keep=60)[1]
    beside = measure(attackable(model, x), x, y, trials({"two": two, "one": one}, [0.05, 0.1], 25), seed=0, keep=60)[1]
    other = measure(attackable(model, x), x, y, trials({"one": one}, [0.1], 25), seed=1, keep=60)[1]
    assert (alone["one@0.1"] == beside["one@0.1"]).all()
    assert (alone["one@0.1"] != other["one@0.1"]).any()


def test_draws_differ_by_image_and_attack_and_are_those_of_every_eps() -> None:
    """Two groups of images, which the ranks may share: the second must not draw what the first drew."""

    def start(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: Generator, **_: object) -> Tensor:
        return torch.rand(x.shape, dtype=x.dtype, generator=generator)

    x, y = torch.zeros(2 * BATCHES_AT_ONCE, 1, 4, 4, dtype=torch.float64), torch.zeros(2 * BATCHES_AT_ONCE, dtype=torch.int64)
    plan = trials({"one": start, "other": start}, [0.1, 0.2], 1)
    made = measure(Victim(Linear(), Linear()), x, y, plan, seed=0, keep=len(x))[1]
    first, second = np.split(made["one@0.1"], 2)
    assert (first != second).all()
    assert (made["one@0.1"] == made["one@0.2"]).all()
    assert (made["one@0.1"] != made["other@0.1"]).all()


def test_kept_images_are_the_first_and_reproduce_the_outcome(images: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = Linear(), images
    outcomes, kept = measure(attackable(model, x), x, y, trials({"fgsm": fgsm}, [0.1], 25), seed=0, keep=7)
    assert set(kept) == {"clean@0", "fgsm@0.1"}
    assert (kept["clean@0"] == x[:7].numpy()).all()
    again = model(torch.from_numpy(kept["fgsm@0.1"])).argmax(1)
    assert again.tolist() == outcomes[outcomes.attack == "fgsm"].prediction.tolist()[:7]
    assert measure(attackable(model, x), x, y, trials({"fgsm": fgsm}, [0.1], 25), seed=0, keep=0)[1] == {}


def test_summary_names_each_trial_once(images: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = Linear(), images
    plan = trials({"fgsm": fgsm}, [0.05, 0.1], 60)
    plan += noise_trials(mim, eps=1.0, steps=2, rel_step_size=0.01, decay=1.0, stop=["sample"], batch_size=60)
    summary = summary_metrics(measure(attackable(model, x), x, y, plan, seed=0, keep=0)[0])
    assert list(summary) == ["accuracy/clean", "accuracy/fgsm_0.05", "accuracy/fgsm_0.1", "mse/noise_sample"]
    assert summary["accuracy/clean"] == pytest.approx(100 * (model.margin(x, y) > 0).double().mean().item())


def test_accuracy_and_features_are_of_the_model_in_eval_mode() -> None:
    torch.manual_seed(0)
    network = SmallCNN(3, torch.tensor([0.5]), torch.tensor([0.2]), widths=[2, 2, 2, 4], branch=3, penultimate=5)
    x, y = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (20,))
    network.train()
    statistics = {name: value.clone() for name, value in network.state_dict().items()}
    got = accuracy(network, x, y, batch_size=7)
    features = clean_features(network, x.float() / 255, batch_size=7)
    assert network.training
    assert all(torch.equal(value, statistics[name]) for name, value in network.state_dict().items())
    network.eval()
    logits, expected = network.forward_features(x.float() / 255)
    assert got == pytest.approx(100 * (logits.argmax(1) == y).float().mean().item())
    assert {name: feature.shape for name, feature in features.items()} == {
        **{"layer1": (20, 2), "layer2": (20, 2)},
        **{"layer3": (20, 3), "layer4": (20, 4), "layer5": (20, 5)},
    }
    assert features["layer5"] == pytest.approx(expected["layer5"].detach().numpy(), abs=1e-6)


def test_what_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    """Killed in the second attack, it goes on with that one, and comes to the same."""
    model, x = Linear(), torch.rand(12, 1, 4, 4, dtype=torch.float64)
    y = model(x).argmax(1)
    runs: list[float] = []

    def counted(model: nn.Module, x: Tensor, y: Tensor, eps: float, **options: Any) -> Tensor:
        runs.append(eps)
        if eps == 0.2 and len(runs) == 2:
            raise KeyboardInterrupt
        return pgd(model, x, y, eps, steps=2, rel_step_size=0.5, **options)

    def found(made: Made | None) -> pd.DataFrame:
        return measure(Victim(model, model), x, y, trials({"pgd": counted}, [0.1, 0.2], 12), seed=0, keep=0, made=made)[0]

    made = partial(attacked_once, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        found(made)
    first = found(made)
    assert runs == [0.1, 0.2, 0.2]
    pd.testing.assert_frame_equal(found(None), first)
