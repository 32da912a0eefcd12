"""How the benchmarks time: the clock, pairs and their ratios, a child process and its peak memory, sizes by device."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")
KIB = 1 if sys.platform == "darwin" else 1024  # what getrusage counts memory in


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


LAUNCH = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(f"\\n{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
sys.exit(code)"""  # between us and the child, because a process counts as its own what the one that started it held then


class Child(NamedTuple):
    """What a finished process left. peak: the most memory in bytes that it held at once, or one of those that it started, whichever
    is more; last: the last line that it printed."""

    seconds: float
    peak: int
    last: str


class Size(NamedTuple):
    """How much of something is measured: by --quick, on a CPU, on a GPU."""

    quick: float
    cpu: float
    cuda: float
    what: str


def timed(work: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """What `work` returns, and the seconds until the device has done all of it."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def quartiles(values: Sequence[float]) -> Quartiles:
    return Quartiles(*(float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])))


def between(base: Callable[[], float], others: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, float]]:
    """base, first other, base, second other, ..., base, each called once and saying how long it took. -> for every other its
    seconds and the mean of the base's before and after it, so that a slow drift of the machine is in both."""
    times, before = {}, base()
    for name, other in others.items():
        seconds, after = other(), base()
        times[name], before = (seconds, (before + after) / 2), after
    return times


def rounds(seconds: float, at_least: int) -> Iterator[int]:
    """0, 1, ... until `seconds` have gone by, and at least so many."""
    start, count = time.perf_counter(), 0
    while count < at_least or time.perf_counter() - start < seconds:
        yield count
        count += 1


def child(command: Sequence[str], *, cwd: str | Path = ".", env: Mapping[str, str] | None = None) -> Child:
    """Runs a command to its end. Raises ValueError with the end of what it said where it fails."""
    start = time.perf_counter()
    launched = [sys.executable, "-c", LAUNCH, *command]
    done = subprocess.run(launched, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds, (said, _, peak) = time.perf_counter() - start, done.stdout.strip().rpartition("\n")
    if done.returncode:
        raise ValueError(f"{' '.join(command)} ended with {done.returncode}: {said.strip()[-2000:]}")
    return Child(seconds, int(peak) * KIB, said.strip().rpartition("\n")[2])


def child_json(module: str, *arguments: str) -> tuple[dict[str, Any], int]:
    """Runs `python -m MODULE ARGUMENTS`, whose last line is JSON -> that and its peak memory in bytes."""
    done = child([sys.executable, "-m", module, *arguments])
    found: dict[str, Any] = json.loads(done.last)
    return found, done.peak


def add_sizes(parser: argparse.ArgumentParser, sizes: Mapping[str, Size]) -> None:
    """An option for each, which is the number for the device where it is not given."""
    for name, size in sizes.items():
        kind = type(size.cpu)
        default = f"default: {size.cpu:g} on a CPU, {size.cuda:g} on a GPU, {size.quick:g} with --quick"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{size.what} ({default})")


def fill_sizes(chosen: argparse.Namespace, sizes: Mapping[str, Size], device: torch.device) -> None:
    for name, size in sizes.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, size.quick if chosen.quick else size.cuda if device.type == "cuda" else size.cpu)
