"""Attacks in turn on what is still standing, and side by side, on a model whose answers are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.fgsm import fgsm
from pipeline.evaluation.robustness import Trial, attackable, attacked, measure, predict, progress
from pipeline.evaluation.worst_case import worst_case_in_sequence, worst_case_of_all, worst_examples


class Threshold(nn.Module):
    """Class 1 where the one pixel is above 1/2; the further from it, the surer."""

    def forward(self, x: Tensor) -> Tensor:
        m = 10 * (x.flatten(1)[:, 0] - 0.5)
        return torch.stack([-m, m], dim=1)


PIXELS = torch.tensor([0.1, 0.3, 0.45, 0.6, 0.9, 0.2])
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])  # the last is wrong from the start


def shifted(by: float, seen: list[Tensor]):
    """An attack that moves every image by so much towards the wrong side and notes what it was given."""

    def run(model: nn.Module, x: Tensor, y: Tensor, eps: float, **_: object) -> Tensor:
        seen.append(x.flatten())
        return x + by * (1 - 2 * y[:, None, None, None].to(x.dtype))

    return run


def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    with progress(len(x)) as bar:
        return attacked(attackable(Threshold(), x), x, y, trial, seed=0, bar=bar)


@pytest.fixture
def images() -> Tensor:
    return PIXELS[:, None, None, None]


def test_each_part_gets_what_the_ones_before_it_left(images: Tensor) -> None:
    seen: list[Tensor] = []
    parts = [Trial(f"all/{name}", 0.3, shifted(by, seen), 2) for name, by in (("small", 0.11), ("none", 0.0), ("large", 0.25))]
    rows, x_worst = worst_case_in_sequence("all", images, LABELS, predict(Threshold(), images, batch_size=9), parts, run)
    of = {name: own.set_index("image") for name, own in rows.groupby("attack")}
    assert list(of["all/small"].index) == [0, 1, 2, 3, 4]
    assert list(of["all/none"].index) == [0, 1, 4]
    assert list(of["all/large"].index) == [0, 1, 4]
    torch.testing.assert_close(seen[1], PIXELS[[0, 1, 4]])  # not what the first part made of them
    assert list(of["all"].index) == [0, 1, 2, 3, 4, 5]
    assert of["all"].correct.tolist() == [True, False, False, False, True, False]
    assert of["all"].linf.tolist() == pytest.approx([0.25, 0.25, 0.11, 0.11, 0.25, 0.0])  # of who broke it, else of the last
    torch.testing.assert_close(x_worst.flatten(), torch.tensor([0.35, 0.55, 0.56, 0.49, 0.65, 0.2]))
    assert of["all"].prediction.tolist() == [0, 1, 1, 0, 1, 0]
    assert set(of["all"].eps) == {0.3}


def test_it_ends_when_nothing_stands(images: Tensor) -> None:
    seen: list[Tensor] = []
    parts = [Trial("all/one", 0.5, shifted(0.45, seen), 9), Trial("all/two", 0.5, shifted(0.0, seen), 9)]
    rows, _ = worst_case_in_sequence("all", images, LABELS, predict(Threshold(), images, batch_size=9), parts, run)
    assert len(seen) == 1
    assert not rows[rows.attack == "all"].correct.any()
    assert "all/two" not in set(rows.attack)


def test_one_part_alone_is_what_measure_finds(images: Tensor) -> None:
    trial = Trial("fgsm", 0.3, fgsm, 4)
    measured, _ = measure(attackable(Threshold(), images), images, LABELS, [trial], seed=0, keep=0)
    rows, _ = worst_case_in_sequence("worst", images, LABELS, predict(Threshold(), images, batch_size=9), [trial], run)
    pd.testing.assert_frame_equal(
        measured[measured.attack == "fgsm"].iloc[:5].drop(columns="attack").reset_index(drop=True),
        rows[rows.attack == "worst"].iloc[:5].drop(columns="attack").reset_index(drop=True),
    )


def test_side_by_side_takes_the_first_that_breaks_an_image() -> None:
    rows = pd.DataFrame(
        {
            "image": [0, 1, 2, 0, 1, 2],
            "attack": ["a", "a", "a", "b", "b", "b"],
            "correct": [True, False, True, False, False, True],
            "linf": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        }
    )
    worst = worst_case_of_all("both", rows)
    assert worst.image.tolist() == [0, 1, 2]
    assert worst.correct.tolist() == [False, False, True]
    assert worst.linf.tolist() == [0.4, 0.2, 0.3]
    assert set(worst.attack) == {"both"}


def test_examples_are_the_surest_of_the_broken(images: Tensor) -> None:
    parts = [Trial("all/small", 0.3, shifted(0.11, []), 9), Trial("all/large", 0.3, shifted(0.25, []), 9)]
    rows, x_worst = worst_case_in_sequence("all", images, LABELS, predict(Threshold(), images, batch_size=9), parts, run)
    examples = worst_examples(Threshold(), images, LABELS, x_worst, rows, count=2, batch_size=1)
    assert examples["image"].tolist() == [2, 1]  # moved to 0.56 and 0.55; image 3 to 0.49, image 5 was wrong already
    assert examples["attack"].tolist() == ["all/small", "all/large"]
    assert examples["prediction"].tolist() == [1, 1]
    assert examples["label"].tolist() == [0, 0]
    assert examples["confidence"] == pytest.approx(1 / (1 + np.exp(-20 * np.array([0.06, 0.05]))), abs=1e-5)
    assert examples["clean"].ravel() == pytest.approx([0.45, 0.3])
    assert examples["adversarial"].ravel() == pytest.approx([0.56, 0.55])
    none = worst_examples(Threshold(), images[:1], LABELS[:1], images[:1], rows[:0], count=2, batch_size=1)
    assert none["clean"].shape == (0, 1, 1, 1)
    assert len(none["attack"]) == 0
