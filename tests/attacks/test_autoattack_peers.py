"""Our AutoAttack beside ART's and, where it is installed, torchattacks', and what the comparison counts."""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from benchmarks import autoattack as benchmark
from pipeline.params.choices import AttackChoice

STEPS, QUERIES = 10, 50
PARTS = {
    "apgd_ce": AttackChoice(name="apgd", steps=STEPS, restarts=1),
    "apgd_t": AttackChoice(name="apgd_targeted", steps=STEPS, targets=9, restarts=1),
    "fab_t": AttackChoice(name="fab", steps=STEPS, targets=9, restarts=1),
    "square": AttackChoice(name="square", queries=QUERIES, p_init=0.8),
}
EPS = {"linf": 0.1, "l2": 0.5}  # where about half of the images are left


@pytest.fixture
def task(request: pytest.FixtureRequest, trained: nn.Module, digits: tuple[Tensor, Tensor]) -> benchmark.Task:
    norm = getattr(request, "param", "linf")
    x, y = digits[0][:64].float(), digits[1][:64]
    return benchmark.Task(nn.Sequential(trained).float(), x, y, norm, EPS[norm], 10, seed=0, batch_size=64)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # ART's Square in l2, on images this small
@pytest.mark.parametrize("task", EPS, indirect=True)
@pytest.mark.parametrize("peer", [benchmark.art_standard, benchmark.torchattacks_standard])
def test_leaves_at_most_one_image_more_than_the_peer(
    peer: Callable[..., Tensor], task: benchmark.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    if peer is benchmark.torchattacks_standard and not importlib.util.find_spec("torchattacks"):
        pytest.skip("torchattacks is not installed")
    monkeypatch.setitem(sys.modules, "multiprocess", ModuleType("multiprocess"))  # ART imports it, but starts no process here
    attacks = (partial(benchmark.ours, parts=PARTS), partial(peer, steps=STEPS, queries=QUERIES))
    ours, theirs = (benchmark.left(task, attack(task)) for attack in attacks)
    assert 10 < theirs < 54  # so that there is something to compare
    assert ours <= theirs + 1


class Zero(nn.Module):
    """Says class 0 of everything."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 2).float()


@pytest.mark.parametrize(
    ("norm", "x", "delta", "standing"),
    [
        ("linf", 0.5, 0.1, 0),
        ("linf", 0.5, 0.101, 3),  # outside the ball
        ("linf", 0.05, -0.1, 3),  # outside the range
        ("l2", 0.5, 0.0125, 0),  # 64 pixels, 8 x 0.0125 = 0.1
        ("l2", 0.5, 0.0126, 3),
    ],
)
def test_a_wrong_answer_counts_only_inside_the_ball_and_the_range(norm: str, x: float, delta: float, standing: int) -> None:
    images = torch.full((3, 1, 8, 8), x)
    task = benchmark.Task(Zero(), images, torch.ones(3, dtype=torch.int64), norm, 0.1, 2, seed=0, batch_size=2)
    assert benchmark.left(task, images + delta) == standing
    assert benchmark.left(task._replace(y=torch.zeros(3, dtype=torch.int64)), images) == 3
