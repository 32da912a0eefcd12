"""The one training loop. A recipe is what it is given: a learner, batches, an adversary."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from pipeline.models.replayed import Recorder, Work
from pipeline.runtime.distributed import check_same, gather_rows, is_main, own_part, part_sizes, world_size
from pipeline.training.adversary import Adversary
from pipeline.training.awp import perturbed
from pipeline.training.finite import FiniteWatch, check_parameters
from pipeline.training.optimizer import clip_gradients, reached, set_learning_rates, sum_gradients
from pipeline.training.state import Learner, Row, resume_learner, save_learner

Batches = Callable[[Generator], Iterator[tuple[Tensor, Tensor]]]  # one epoch of images in [0, 1] and labels


def fit(
    learner: Learner,
    *,
    batches: Batches,
    images: int,
    epochs: int,
    adversary: Adversary,
    precision: str,
    awp: Mapping[str, float] | None,
    validate: Callable[[bool], Row],
    keep: Literal["last", "best"],
    checkpoint: Path,
    params: Mapping[str, Any],
    on_epoch: Callable[[Row, float | None], None],
) -> list[Row]:
    """Trains to `epochs` and returns one row for each. `batches(generator)` gives one epoch of `images` images. `awp`: the `gamma`
    of adversarial weight perturbation and its `warmup`, the milestone before which there is none; None for none.

    `validate(last)` gives the columns validation_accuracy and, where it measures it, validation_robust of `learner.trained()`,
    after the last epoch or another one; it draws nothing from the learner's generator. keep `best`: learner.kept() is the epoch
    that `best_row` names, else the last.

    After every epoch the whole state is written to `checkpoint` (with `params`, which made it); where that file exists, training
    goes on from it and ends with the same weights as if it had never stopped. `on_epoch(row, images per second)` is called for
    every epoch; for those of an earlier run without a rate. Raises DivergedError when a loss leaves the finite numbers.

    With several ranks all are given the same, and a step is shared out (see `step`). Checkpoints are the same for any number.
    """
    rows = resume_learner(checkpoint, learner, params)
    check_same(f"what is in {checkpoint}", f"{len(rows)} epochs")
    for row in rows:
        on_epoch(row, None)
    every = 0.2 if sys.stderr.isatty() else 20.0  # seconds; a log file gets a line now and then
    with tqdm(total=epochs * images, initial=len(rows) * images, unit="img", file=sys.stderr, mininterval=every) as bar:
        for epoch in range(len(rows), epochs):
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            set_learning_rates(learner.optimizer, epoch, epochs)
            start = time.perf_counter()
            gamma = awp["gamma"] if awp and reached(awp["warmup"], epoch, epochs) else 0.0
            row = run_epoch(learner, batches(learner.generator), adversary, precision, bar, gamma=gamma)
            rate = images / (time.perf_counter() - start)
            row = {"epoch": epoch + 1, "lr": learner.optimizer.param_groups[0]["lr"], **row, **validate(epoch + 1 == epochs)}
            rows.append(row)
            if keep == "best" and best_row(rows) is row:
                learner.keep_as_best()
            on_epoch(row, rate)  # before the checkpoint: after a kill in between, the epoch is done again
            if is_main():
                save_learner(checkpoint, learner, rows, params)
            seen = f"train {row['train_accuracy']:.1f}% val {row['validation_accuracy']:.1f}%"
            bar.set_postfix_str(f"loss {row['loss']:.3f} {seen}", refresh=False)
    return rows


def best_row(rows: list[Row]) -> Row:
    """The one with the highest accuracy on the validation split: the robust one where it is measured (Rice et al.,
    arXiv:2002.11569), of equal ones the one with more clean images right, then the later: its learning rate is lower."""
    return max(reversed(rows), key=lambda row: (row.get("validation_robust", 0.0), row["validation_accuracy"]))


def run_epoch(
    learner: Learner,
    batches: Iterator[tuple[Tensor, Tensor]],
    adversary: Adversary,
    precision: str,
    bar: "tqdm[Any]",
    *,
    gamma: float,
) -> Row:
    """One pass. Sums stay on the device and are read at the end, and for the progress bar about once a second.
    train_accuracy is over all images that the network saw, attacked ones too."""
    criterion, device = learner.criterion, learner.generator.device
    learner.network.train()
    watch = FiniteWatch(criterion.terms, device)
    sums = torch.zeros(len(criterion.terms), device=device)
    right = torch.zeros((), device=device)
    clean_seen = seen = 0
    looked = time.monotonic()
    for clean, labels in batches:
        values, right_now = step(learner, clean, labels, adversary, precision, gamma)
        watch.update(values)
        sums += values * len(clean)
        right += right_now.sum()
        clean_seen, seen = clean_seen + len(clean), seen + len(right_now)
        bar.update(len(clean))
        if time.monotonic() - looked > 1:
            watch.check(bar.desc.rstrip(": "))
            bar.set_postfix_str(f"loss {sums.sum().item() / clean_seen:.3f} train {100 * right.item() / seen:.1f}%", refresh=False)
            looked = time.monotonic()
    watch.check(bar.desc.rstrip(": "))
    check_parameters([learner.network, criterion], bar.desc.rstrip(": "))
    means = (sums / clean_seen).tolist()
    return {"loss": sum(means), **dict(zip(criterion.terms, means, strict=True)), "train_accuracy": 100 * right.item() / seen}


def step(
    learner: Learner, clean: Tensor, labels: Tensor, adversary: Adversary, precision: str, gamma: float
) -> tuple[Tensor, Tensor]:
    """One update by a batch (B, C, H, W) and its labels (B,). Returns the terms of the loss (T,) and which of the images (B',) that
    the network saw it had right; with a `gamma` above 0 both, and the gradient, are those of the perturbed weights.

    Every rank has the same learner and batch, sends its part of the images through the network, and computes the loss, which may
    compare images, from the logits and features of all."""
    with autocast(clean.device, precision):
        x, y, weight = adversary(learner.network, clean, labels, learner.generator)
    values, right = update(learner, precision, gamma)(x, y, weight)
    if learner.average is not None:
        learner.average.update(learner.network, learner.criterion)
    return values, right


def update(learner: Learner, precision: str, gamma: float) -> Work:
    """What `step` does to the images that the network sees (B', C, H, W), their labels and weights (B',); on one GPU recorded."""
    if world_size() > 1:  # what ranks tell each other is in no recording
        return partial(_update, learner, precision, gamma)
    numbers = precision, gamma, *(group["lr"] for group in learner.optimizer.param_groups)
    if learner.recorded is None or learner.recorded[0] != numbers:
        learner.recorded = numbers, Recorder(partial(_update, learner, precision, gamma), differentiable=False)
    return learner.recorded[1]


def _update(learner: Learner, precision: str, gamma: float, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    network, criterion, optimizer = learner.network, learner.criterion, learner.optimizer
    own, sizes, used = x[own_part(len(x))], part_sizes(len(x)), criterion.layers()

    def forward() -> tuple[Tensor, Tensor]:
        with autocast(x.device, precision):
            part, features = network.forward_features(own.requires_grad_(bool(criterion.input_gradient)))
        floats = {name: gather_rows(feature.float(), sizes) for name, feature in features.items() if name in used}
        logits = gather_rows(part.float(), sizes)
        terms = criterion(own, logits, floats, y, weight)
        return torch.stack(list(terms.values())), logits

    with perturbed(network, lambda: forward()[0].sum(), gamma) if gamma else nullcontext():
        values, logits = forward()
        optimizer.zero_grad()
        values.sum().backward()
    sum_gradients(network, criterion)
    clip_gradients(optimizer)
    optimizer.step()
    return values.detach(), logits.argmax(1) == y


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Without a cache of weights in bf16: each is used once, and a recording must find none."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
