"""The order in which tries are handed out, worked by hand."""

import torch
from torch import Tensor

from pipeline.attacks.tries import Tries, best_of_each


def test_one_class_after_the_other_on_images_that_stand() -> None:
    told: list[float] = []
    drawn: list[int] = []

    def starts(restart: int) -> Tensor:
        drawn.append(restart)
        return torch.arange(4.0).view(4, 1, 1, 1) + 10 * restart

    standing, targets = torch.tensor([True, False, True, True]), torch.tensor([[5, 6], [7, 8], [1, 2], [3, 4]])
    tries = Tries(standing, targets, 2, starts, told.append)
    assert told == [1]  # the one that needs none
    first = tries.take(2)
    assert first.row.tolist() == [0, 2]
    assert first.target.tolist() == [5, 1]
    assert drawn == [0]
    tries.end(torch.tensor([0]), torch.tensor([2]))  # a try on 0 led nowhere, 2 is broken
    assert told[1] == 1 / 4 + 1  # of four tries each
    second = tries.take(3)
    assert second.row.tolist() == [3, 0, 3]
    assert second.target.tolist() == [3, 5, 3]
    assert second.start.flatten().tolist() == [3, 10, 13]
    assert len(tries.take(0).row) == 0
    last = tries.take(100)
    assert last.row.tolist() == [0, 3, 0, 3]
    assert last.target.tolist() == [6, 4, 6, 4]
    assert drawn == [0, 1, 0, 1]
    assert len(tries.take(1).row) == 0
    tries.end(torch.tensor([0, 0, 0, 3, 3]), torch.tensor([3, 3]))
    assert sum(told) == 4


def test_the_best_try_of_each_image_the_first_of_equals() -> None:
    row, value = torch.tensor([2, 0, 2, 0, 5, 2]), torch.tensor([1.0, 3.0, 4.0, 3.0, -torch.inf, 4.0])
    assert best_of_each(row, value, 6).tolist() == [1, 2, 4]
