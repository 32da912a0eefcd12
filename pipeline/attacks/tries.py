"""Restarts of APGD and FAB on every image, towards one wrong class after the other: a full batch of tries at a time, in which the
next try takes the place of one that ends."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.attacks.steps import Done

Starts = Callable[[int], Tensor]  # restart (from 0) -> where each of the N images starts, (N, C, H, W)


class Try(NamedTuple):
    """T tries: the image of each (T,), the wrong class it is led to (T,), where it starts (T, C, H, W)."""

    row: Tensor
    target: Tensor
    start: Tensor


class Tries:
    """Hands out the tries of the images that are `active` (N,): towards the first column of `targets` (N, K) all of them
    `restarts` times, then towards the next. `starts` is called once for each column and restart, for all images, so that no image's
    start depends on the others. `done` is told of images, and of parts of them, that have no more tries."""

    def __init__(self, active: Tensor, targets: Tensor, restarts: int, starts: Starts, done: Done) -> None:
        self.active = active.clone()
        self.each = targets.shape[1] * restarts  # tries of an image
        self.left, self.done = self.each * active, done
        self.rounds = self._rounds(active.nonzero()[:, 0], targets, restarts, starts)
        self.waiting = next(self.rounds)
        done(len(active) - int(active.sum()))

    @staticmethod
    def _rounds(rows: Tensor, targets: Tensor, restarts: int, starts: Starts) -> Iterator[Try]:
        for target in targets.unbind(1):
            for restart in range(restarts):
                yield Try(rows, target[rows], starts(restart)[rows])

    def take(self, room: int) -> Try:
        """The next `room` tries on active images; fewer where there are no more."""
        taken = [Try(*(values[:0] for values in self.waiting))]
        while room:
            going = self.active[self.waiting.row]
            waiting = Try(*(values[going] for values in self.waiting))
            taken.append(Try(*(values[:room] for values in waiting)))
            count = len(taken[-1].row)
            room, self.waiting = room - count, Try(*(values[count:] for values in waiting))
            if room:
                more = next(self.rounds, None) if self.active.any() else None
                if more is None:
                    break
                self.waiting = more
        return Try(*map(torch.cat, zip(*taken, strict=True)))

    def end(self, over: Tensor, broken: Tensor) -> None:
        """over: the images of tries that came to their end (T,); broken: images that need no other try (T,)."""
        before = int(self.left.sum())
        self.left.scatter_add_(0, over, -torch.ones_like(over))
        self.left[broken], self.active[broken] = 0, False
        self.done((before - int(self.left.sum())) / self.each)


def best_of_each(row: Tensor, value: Tensor, count: int) -> Tensor:
    """Of the tries on each image the one with the highest value, the first of equal ones. row: (T,) below `count`, value: (T,) ->
    the places of these tries among the T. The same on every device, which writing twice to one place is not."""
    top = value.new_full((count,), -torch.inf).scatter_reduce(0, row, value, "amax")
    place = torch.arange(len(row), device=row.device).masked_fill(value < top[row], len(row))
    first = place.new_full((count,), len(row)).scatter_reduce(0, row, place, "amin")
    return first[first < len(row)]


def logits_of(model: nn.Module, x: Tensor, batch_size: int | None) -> Tensor:
    """(N, C, H, W) -> (N, K), so many images at a time."""
    return torch.cat([model(part) for part in x.split(batch_size or len(x))])
