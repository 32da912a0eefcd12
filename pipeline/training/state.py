"""Everything that a training step changes, and its way to disk and back."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator
from torch.optim import SGD

from pipeline.checkpoint import load_state, save_state
from pipeline.models.network import Network
from pipeline.training.criterion import Criterion

Row = dict[str, float]  # one epoch: epoch, lr, loss, each term, train_accuracy, validation_accuracy


@dataclass
class Learner:
    """Weights, prototypes (in the criterion), their optimiser, and the source of all randomness of the loop."""

    network: Network
    criterion: Criterion
    optimizer: SGD
    generator: Generator


def save_learner(path: Path, learner: Learner, rows: list[Row], params: Mapping[str, Any]) -> None:
    """The whole state after an epoch, with the rows so far and, for the reader, the params it follows from."""
    state = {
        "rows": rows,
        "network": learner.network.state_dict(),
        "criterion": learner.criterion.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "generator": learner.generator.get_state(),
        "torch_rng": torch.get_rng_state(),  # of layers that draw, such as dropout
        "params": dict(params),
    }
    if learner.generator.device.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state()
    save_state(path, state)


def resume_learner(path: Path, learner: Learner) -> list[Row]:
    """Puts a learner where `save_learner` left it and returns the rows so far; none where there is no file."""
    if not path.exists():
        return []
    state = load_state(path)
    learner.network.load_state_dict(state["network"])
    learner.criterion.load_state_dict(state["criterion"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch_rng"])
    if "cuda_rng" in state and learner.generator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"])
    rows: list[Row] = state["rows"]
    print(f"going on after epoch {len(rows)} from {path}", file=sys.stderr)
    return rows
