"""The one training loop. A recipe is what it is given: network, criterion, optimiser, batches, adversary."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim import SGD
from tqdm import tqdm

from pipeline.checkpoint import load_state, save_state
from pipeline.models.network import Network
from pipeline.training.adversary import Adversary
from pipeline.training.criterion import Criterion
from pipeline.training.finite import FiniteWatch
from pipeline.training.optimizer import set_learning_rates

Row = dict[str, float]  # one epoch: epoch, lr, loss, each term, train_accuracy, validation_accuracy


def fit(
    network: Network,
    criterion: Criterion,
    optimizer: SGD,
    *,
    batches: Callable[[Generator], Iterator[tuple[Tensor, Tensor]]],
    images: int,
    epochs: int,
    adversary: Adversary,
    generator: Generator,
    precision: str,
    validate: Callable[[], float],
    checkpoint: Path,
    on_epoch: Callable[[Row, float | None], None],
) -> list[Row]:
    """Trains to `epochs` and returns one row for each. `batches(generator)` gives one epoch of `images` images.

    After every epoch the whole state is written to `checkpoint`; where that file exists, training goes on from it and ends with
    the same weights as if it had never stopped. `on_epoch(row, images per second)` is called for every epoch; for those of an
    earlier run without a rate.
    Raises DivergedError when a loss leaves the finite numbers.
    """
    rows = _resume(checkpoint, network, criterion, optimizer, generator) if checkpoint.exists() else []
    for row in rows:
        on_epoch(row, None)
    watch = FiniteWatch(criterion.terms, generator.device)
    with tqdm(total=epochs * images, initial=len(rows) * images, unit="img", file=sys.stderr, mininterval=_bar_interval()) as bar:
        for epoch in range(len(rows), epochs):
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            set_learning_rates(optimizer, epoch, epochs)
            start = time.perf_counter()
            row = _epoch(network, criterion, optimizer, batches(generator), adversary, generator, precision, watch, bar)
            rate = images / (time.perf_counter() - start)
            row = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"], **row, "validation_accuracy": validate()}
            bar.set_postfix_str(
                f"loss {row['loss']:.3f} train {row['train_accuracy']:.1f}% val {row['validation_accuracy']:.1f}%", refresh=False
            )
            rows.append(row)
            save_state(checkpoint, _state(rows, network, criterion, optimizer, generator))
            on_epoch(row, rate)
    return rows


def _epoch(
    network: Network,
    criterion: Criterion,
    optimizer: SGD,
    batches: Iterator[tuple[Tensor, Tensor]],
    adversary: Adversary,
    generator: Generator,
    precision: str,
    watch: FiniteWatch,
    bar: "tqdm[Any]",
) -> Row:
    """One pass. Sums stay on the device and are read at the end, and for the progress bar about once a second."""
    network.train()
    device = generator.device
    sums = torch.zeros(len(criterion.terms), device=device)
    right = torch.zeros((), device=device)
    seen = steps = 0
    looked = time.monotonic()
    for clean, labels in batches:
        x, y, weight = adversary(network, clean, labels, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits, features = network.forward_features(x)
        terms = criterion(logits.float(), {name: feature.float() for name, feature in features.items()}, y)
        values = torch.stack([(weight * term).sum() for term in terms.values()])  # (T,)
        optimizer.zero_grad(set_to_none=True)
        values.sum().backward()
        optimizer.step()
        watch.update(values.detach())
        sums += values.detach()
        right += (logits.argmax(1) == y).sum()
        seen, steps = seen + len(x), steps + 1
        bar.update(len(clean))
        if time.monotonic() - looked > 1:
            watch.check(bar.desc.rstrip(": "))
            bar.set_postfix_str(f"loss {sums.sum().item() / steps:.3f} train {100 * right.item() / seen:.1f}%", refresh=False)
            looked = time.monotonic()
    watch.check(bar.desc.rstrip(": "))
    means = (sums / steps).tolist()
    return {"loss": sum(means), **dict(zip(criterion.terms, means, strict=True)), "train_accuracy": 100 * right.item() / seen}


def _state(rows: list[Row], network: Network, criterion: Criterion, optimizer: SGD, generator: Generator) -> dict[str, Any]:
    return {
        "rows": rows,
        "network": network.state_dict(),
        "criterion": criterion.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }


def _resume(path: Path, network: Network, criterion: Criterion, optimizer: SGD, generator: Generator) -> list[Row]:
    state = load_state(path)
    network.load_state_dict(state["network"])
    criterion.load_state_dict(state["criterion"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    rows: list[Row] = state["rows"]
    print(f"going on after epoch {len(rows)} from {path}", file=sys.stderr)
    return rows


def _bar_interval() -> float:
    return 0.2 if sys.stderr.isatty() else 20.0  # seconds; a log file gets a line now and then
