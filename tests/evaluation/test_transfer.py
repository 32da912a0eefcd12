"""Transfer attacks, against `measure` and closed forms of linear models."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.bim import bim
from pipeline.attacks.cw import cw
from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.pgd import pgd
from pipeline.evaluation.robustness import Trial, Victim, attackable, measure, trials
from pipeline.evaluation.transfer import accuracies, transfer


def plan() -> list[Trial]:
    """With one that draws, and one on the first images only; batches that do not divide the 128 images."""
    attacks = {"bim": partial(bim, steps=5, rel_step_size=0.2), "pgd": partial(pgd, steps=3, rel_step_size=0.4)}
    first = Trial("cw", 0.05, partial(cw, confidence=0.0, learning_rate=0.05, steps=30, binary_search_steps=1), 16, images=40)
    return [*trials(attacks, [0.1, 0.15], 48), first]


def victims(models: dict[str, nn.Module], x: Tensor) -> dict[str, Victim]:
    return {name: attackable(model, x) for name, model in models.items()}


def test_the_diagonal_is_what_measure_finds_and_a_copy_has_it_too(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    models = {"a": trained, "b": untrained}
    twin = copy.deepcopy(trained).train()  # judges in eval mode all the same
    outcomes = transfer(victims(models, digits[0]), {**models, "twin": twin}, *digits, plan(), seed=3)
    assert (outcomes.linf[outcomes.attack != "cw"] <= outcomes.eps[outcomes.attack != "cw"] + 1e-6).all()
    assert (outcomes.correct == (outcomes.prediction == outcomes.label)).all()
    frame = accuracies(outcomes)
    assert list(frame.columns) == ["source", "target", "attack", "eps", "images", "accuracy"]
    assert len(frame) == 2 * 3 * 5
    assert twin.training
    cells = frame.set_index(["source", "target", "attack", "eps"])
    for name, model in models.items():
        own, _ = measure(attackable(model, digits[0]), *digits, plan(), seed=3, keep=0)
        for (attack, eps), rows in own[own.attack != "clean"].groupby(["attack", "eps"]):
            cell = cells.loc[(name, name, attack, eps)]
            assert cell.accuracy == pytest.approx(100 * rows.correct.mean())
            assert cell.images == len(rows) == (40 if attack == "cw" else 128)
    white = cells.xs("a", level="source").xs("a", level="target").accuracy
    assert (cells.xs("a", level="source").xs("twin", level="target").accuracy == white).all()
    assert 5 < white.min() < white.max() < 95


class Pixel(nn.Module):
    """Logits (-m, m) with m = one pixel - 0.5: it is right where that pixel is on the label's side."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        m = x.flatten(1)[:, self.index] - 0.5
        return torch.stack([-m, m], dim=1)


def test_an_image_moves_only_where_its_source_looks() -> None:
    x = torch.tensor([[0.6, 0.9], [0.7, 0.6], [0.9, 0.7], [0.4, 0.3]]).view(4, 1, 1, 2)
    y = torch.tensor([1, 1, 1, 0])
    both = nn.ModuleList([Pixel(0), Pixel(1)])
    sources = {"first": both[0], "second": both[1]}
    calls: list[float] = []

    def counted(model: nn.Module, x: Tensor, y: Tensor, eps: float, **_: object) -> Tensor:
        calls.append(eps)
        return fgsm(model, x, y, eps)

    twice = [Trial("fgsm", 0.15, counted, 4), Trial("fgsm", 0.25, counted, 4, images=2)]
    frame = accuracies(transfer(victims(sources, x), sources, x, y, twice, seed=0))
    assert calls == [0.15, 0.25] * 2  # made once, for all targets
    assert frame.to_numpy().tolist() == [
        ["first", "first", "fgsm", 0.15, 4, 50.0],  # 0.6 and 0.4 cross the middle
        ["first", "second", "fgsm", 0.15, 4, 100.0],
        ["first", "first", "fgsm", 0.25, 2, 0.0],  # 0.6 and 0.7
        ["first", "second", "fgsm", 0.25, 2, 100.0],
        ["second", "first", "fgsm", 0.15, 4, 100.0],
        ["second", "second", "fgsm", 0.15, 4, 75.0],  # the 0.6
        ["second", "first", "fgsm", 0.25, 2, 100.0],
        ["second", "second", "fgsm", 0.25, 2, 50.0],
    ]


def test_without_sources_there_are_no_rows() -> None:
    x, y, both = torch.rand(4, 1, 1, 2), torch.tensor([1, 1, 1, 0]), {"first": Pixel(0), "second": Pixel(1)}
    once = [Trial("fgsm", 0.15, fgsm, 4)]
    some, none = transfer(victims(both, x), both, x, y, once, seed=0), transfer({}, both, x, y, once, seed=0)
    assert (list(none), len(none)) == (list(some), 0)
    assert (list(accuracies(none)), len(accuracies(none))) == (list(accuracies(some)), 0)
