"""The one training loop. A recipe is what it is given: a learner, batches, an adversary."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from pipeline.training.adversary import Adversary
from pipeline.training.finite import FiniteWatch, check_parameters
from pipeline.training.optimizer import clip_gradients, set_learning_rates
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
    validate: Callable[[], float],
    checkpoint: Path,
    params: Mapping[str, Any],
    on_epoch: Callable[[Row, float | None], None],
) -> list[Row]:
    """Trains to `epochs` and returns one row for each. `batches(generator)` gives one epoch of `images` images.

    After every epoch the whole state is written to `checkpoint` (with `params`, which made it); where that file exists, training
    goes on from it and ends with the same weights as if it had never stopped. `on_epoch(row, images per second)` is called for
    every epoch; for those of an earlier run without a rate. Raises DivergedError when a loss leaves the finite numbers.
    """
    rows = resume_learner(checkpoint, learner)
    for row in rows:
        on_epoch(row, None)
    every = 0.2 if sys.stderr.isatty() else 20.0  # seconds; a log file gets a line now and then
    with tqdm(total=epochs * images, initial=len(rows) * images, unit="img", file=sys.stderr, mininterval=every) as bar:
        for epoch in range(len(rows), epochs):
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            set_learning_rates(learner.optimizer, epoch, epochs)
            start = time.perf_counter()
            row = run_epoch(learner, batches(learner.generator), adversary, precision, bar)
            rate = images / (time.perf_counter() - start)
            row = {"epoch": epoch + 1, "lr": learner.optimizer.param_groups[0]["lr"], **row, "validation_accuracy": validate()}
            rows.append(row)
            save_learner(checkpoint, learner, rows, params)
            on_epoch(row, rate)
            seen = f"train {row['train_accuracy']:.1f}% val {row['validation_accuracy']:.1f}%"
            bar.set_postfix_str(f"loss {row['loss']:.3f} {seen}", refresh=False)
    return rows


def run_epoch(
    learner: Learner,
    batches: Iterator[tuple[Tensor, Tensor]],
    adversary: Adversary,
    precision: str,
    bar: "tqdm[Any]",
) -> Row:
    """One pass. Sums stay on the device and are read at the end, and for the progress bar about once a second.
    train_accuracy is over all images that the network saw, attacked ones too."""
    network, criterion, optimizer, device = learner.network, learner.criterion, learner.optimizer, learner.generator.device
    network.train()
    watch = FiniteWatch(criterion.terms, device)
    sums = torch.zeros(len(criterion.terms), device=device)
    right = torch.zeros((), device=device)
    clean_seen = seen = 0
    looked = time.monotonic()
    for clean, labels in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            x, y, weight = adversary(network, clean, labels, learner.generator)
            logits, features = network.forward_features(x.requires_grad_(bool(criterion.input_gradient)))
        terms = criterion(x, logits.float(), {name: feature.float() for name, feature in features.items()}, y)
        values = torch.stack([(weight * term).sum() for term in terms.values()])  # (T,)
        optimizer.zero_grad(set_to_none=True)
        values.sum().backward()
        clip_gradients(optimizer)
        optimizer.step()
        watch.update(values.detach())
        sums += values.detach() * len(clean)
        right += (logits.argmax(1) == y).sum()
        clean_seen, seen = clean_seen + len(clean), seen + len(x)
        bar.update(len(clean))
        if time.monotonic() - looked > 1:
            watch.check(bar.desc.rstrip(": "))
            bar.set_postfix_str(f"loss {sums.sum().item() / clean_seen:.3f} train {100 * right.item() / seen:.1f}%", refresh=False)
            looked = time.monotonic()
    watch.check(bar.desc.rstrip(": "))
    check_parameters([network, criterion], bar.desc.rstrip(": "))
    means = (sums / clean_seen).tolist()
    return {"loss": sum(means), **dict(zip(criterion.terms, means, strict=True)), "train_accuracy": 100 * right.item() / seen}
