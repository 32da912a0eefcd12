"""One model by several processes that torchrun starts. Each of them, a rank, has all of the weights, does its part of every batch
and gets the parts of the others. Without torchrun there is one rank, and nothing here does anything."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

PATIENCE = timedelta(days=30)  # one rank may have hours of work left; when one dies, torchrun ends the others


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the ranks of torchrun work together and only the first prints. When one fails, that one raises, and the others, which
    then fail too, exit silently."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1 or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, world = next(rendezvous("env://"))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    try:
        with silence() if rank else nullcontext():
            yield
    except BaseException:
        try:
            first = store.add("failed", 1) == 1
        except RuntimeError:  # the store went with its rank
            first = False
        if first:
            raise
        raise SystemExit(1) from None
    dist.destroy_process_group()


@contextmanager
def silence() -> Iterator[None]:
    """No prints and no progress bars."""
    with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        yield


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the rank that writes files, tracks and prints. What is kept must be known to all: they go on from it."""
    return rank() == 0


def from_main(value: str) -> str:
    """That of the first rank, for all."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def part_sizes(count: int) -> list[int]:
    """How many of `count` rows each rank has, one behind the other; those of two ranks differ by one at most."""
    world = world_size()
    return [(number + 1) * count // world - number * count // world for number in range(world)]


def own_part(count: int) -> slice:
    """Which of `count` rows are this rank's."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def gather_rows(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all ranks, of which rank r has sizes[r]. Only the own ones keep their gradient."""
    if world_size() == 1:
        return own
    padded = own.new_zeros(max(sizes), *own.shape[1:])  # they travel in equal lengths
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    rows = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    rows[rank()] = own
    return torch.cat(rows)


def map_over_ranks(work: Callable[[int], tuple[Tensor, ...]], sizes: Sequence[int], empty: tuple[Tensor, ...]) -> list[Tensor]:
    """work(0), work(1), ..., of sizes[0], sizes[1], ... rows, one below the other. The ranks take turns; all get all. `empty`: no
    rows of the same kinds."""
    world = world_size()
    if world == 1:
        return [torch.cat(parts) for parts in zip(*map(work, range(len(sizes))), strict=True)]
    turns = [range(first, len(sizes), world) for first in range(world)]
    own = [empty, *map(work, turns[rank()])]
    order, totals = [number for turn in turns for number in turn], [sum(sizes[number] for number in turn) for turn in turns]
    found = []
    for kind in zip(*own, strict=True):
        parts = gather_rows(torch.cat(kind), totals).split([sizes[number] for number in order])
        found.append(torch.cat([part for _, part in sorted(zip(order, parts, strict=True), key=itemgetter(0))]))
    return found


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """In place, by one message."""
    if world_size() == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def check_same(what: str, value: str) -> None:
    """Raises ValueError unless all ranks have the same."""
    if world_size() == 1:
        return
    values: list[str] = [""] * world_size()
    dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        seen = ", ".join(f"{other} on rank {number}" for number, other in enumerate(values))
        raise ValueError(f"{what} must be the same for all ranks, got {seen}; they need the same files, params and kind of device")
