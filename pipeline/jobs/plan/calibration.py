"""How fast this machine sends images through a network, measured by the run's own code on random weights and images."""

import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pipeline.attacks.pgd import pgd
from pipeline.data.image_set import ImageSet, Splits
from pipeline.evaluation.robustness import attackable, predict_logits
from pipeline.jobs.learner import new_learner, recipe_adversary, recipe_batches
from pipeline.jobs.trained import test_images
from pipeline.params.choices import AttackChoice
from pipeline.params.items import Adversary, Compute, Recipe
from pipeline.runtime.device import set_up_device
from pipeline.training.adversary import clean_only
from pipeline.training.loop import autocast, run_epoch

BATCHES = 20  # of training images, at most that many a try
SECONDS, TRY = 4.0, 0.5  # of tries for one figure, and of one try
EPS = 0.03
DVC_START = 1.0  # seconds an item: DVC's own start and lock file
RECORD = 0.6  # and a run in MLflow
ROOT = Path(__file__).parents[3]


class Case(NamedTuple):
    """What is calibrated once. recipe: of plain cross entropy, as JSON; batch: images that attacks send through the network at
    once."""

    recipe: str
    shape: tuple[int, int, int]
    classes: int
    batch: int

    def name(self) -> str:
        recipe, shape = json.loads(self.recipe), "x".join(map(str, self.shape))
        return f"{recipe['network']['name']}, {shape}, {self.classes} classes, batches of {recipe['batch_size']} and {self.batch}"


class Speed(NamedTuple):
    """Seconds an image: a training step, a gradient in adversarial training, one in attacks, a forward. `flops` of a forward;
    `width` of all features together; `memory`: the most bytes that the process has held (on a GPU: has held there)."""

    step: float
    training_gradient: float
    gradient: float
    forward: float
    parameters: int
    width: int
    flops: float
    memory: int


def calibrate(case: Case, compute: Compute, attack_compute: Compute) -> Speed:
    """compute: of training. To be called in a process of its own, which then has the memory, and the page faults, of an item."""
    recipe = Recipe.model_validate_json(case.recipe)
    device = set_up_device(compute.device, compute.threads)
    splits = _random_splits(case, recipe.batch_size)
    learner, batches = new_learner(recipe, splits, device, seed=0), recipe_batches(recipe, splits, device)
    network, generator, silent = learner.network, learner.generator, tqdm(file=io.StringIO())
    (x, y), (images, labels) = next(batches(generator)), test_images(splits, "all", device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(images[:1])
    victim = attackable(network, images, attack_compute.precision)
    adversaries = [recipe_adversary(_with_pgd(recipe, steps)) for steps in range(BATCHES + 1)]

    def attack(steps: int) -> None:
        pgd(victim.twin, images, labels, EPS, steps=steps, rel_step_size=0.25, generator=generator)

    def predict(times: int) -> None:
        for _ in range(times):
            predict_logits(victim.twin, images, batch_size=len(images))

    def attack_in_training(steps: int) -> None:
        with autocast(device, compute.precision):
            adversaries[steps](network, x, y, generator)

    def train(steps: int) -> None:
        run_epoch(learner, islice(batches(generator), steps), clean_only, compute.precision, silent, gamma=0.0)

    return Speed(
        gradient=_seconds(attack, device) / len(images),
        forward=_seconds(predict, device) / len(images),
        training_gradient=_seconds(attack_in_training, device) / len(x),
        step=_seconds(train, device) / len(x),
        parameters=sum(tensor.numel() for tensor in network.state_dict().values()),
        width=sum(network.dims.values()),
        flops=float(counter.get_total_flops()),
        memory=_peak_memory(device),
    )


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; in software it is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def process_start(*, training: bool) -> float:
    """Seconds that an item takes besides its work: DVC, Python, imports (an optimiser brings more), its record in MLflow."""
    code = "import pipeline.jobs.train, pipeline.jobs.attack, torch; import mlflow.tracking"  # without MLflow the rest is timed
    code = f"import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)]); {code}" if training else code
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the processor: a busy machine counts no more than an idle one
    return DVC_START + RECORD + after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _with_pgd(recipe: Recipe, steps: int) -> Recipe:
    attack = AttackChoice.model_validate({"name": "pgd", "steps": steps, "rel_step_size": 0.25})
    return recipe.model_copy(update={"adversary": Adversary(clean_share=0, eps=(EPS, EPS), labels="true", attack=attack)})


def _random_splits(case: Case, batch_size: int) -> Splits:
    draws = np.random.default_rng(0)

    def part(count: int) -> ImageSet:
        return ImageSet(draws.integers(0, 256, (count, *case.shape), dtype=np.uint8), draws.integers(0, case.classes, count))

    half = np.full(case.shape[0], 0.5)
    names = [str(name) for name in range(case.classes)]
    return Splits(part(BATCHES * batch_size), part(1), part(case.batch), names, mean=half, std=half / 2)


def _seconds(work: Callable[[int], object], device: torch.device) -> float:
    """Of one of the things that work(n) does n of: the median of some tries, and on one thread of the processor alone, so that what
    else the machine does now counts little."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def timed(count: int) -> float:
        start = clock()
        work(count)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (clock() - start) / count

    end, tries = time.perf_counter() + SECONDS, list[float]()
    first = timed(2 if device.type == "cuda" else 1)  # to warm up; a GPU records at the second
    while not tries or time.perf_counter() < end:
        tries.append(timed(max(1, min(BATCHES, int(TRY / first)))))
    return median(tries)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved()  # with what recorded graphs keep between two uses
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
