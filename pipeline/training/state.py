"""Everything that a training step changes, and its way to disk and back."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim import SGD

from pipeline.models.network import Network
from pipeline.models.replayed import Recorder
from pipeline.runtime.checkpoint import kept_state, save_state
from pipeline.training.criterion import Criterion
from pipeline.training.ema import MovingAverage

Row = dict[str, float]  # one epoch: epoch, lr, loss, each term, train_accuracy, validation_accuracy, perhaps validation_robust
Weights = dict[str, dict[str, Tensor]]  # state dicts of `network` and `criterion`


@dataclass
class Learner:
    """Weights, prototypes (in the criterion), their optimiser, and the source of all randomness of the loop. Where they are used,
    also the moving average and the weights of the best epoch. `recorded` is not part of the state: the training step as a CUDA
    graph, and the settings it was recorded with."""

    network: Network
    criterion: Criterion
    optimizer: SGD
    generator: Generator
    average: MovingAverage | None = None
    best: Weights | None = None
    recorded: tuple[tuple[object, ...], Recorder] | None = None

    def trained(self) -> tuple[Network, Criterion]:
        """What is validated and saved after an epoch: the moving average where there is one."""
        if self.average is None:
            return self.network, self.criterion
        return self.average.module["network"], self.average.module["criterion"]  # type: ignore[index]

    def latest(self) -> Weights:
        """The state dicts of `trained`; further steps change them."""
        network, criterion = self.trained()
        return {"network": network.state_dict(), "criterion": criterion.state_dict()}

    def kept(self) -> Weights:
        """The result of training: the best epoch where one is selected, else the last."""
        return self.best or self.latest()

    def keep_as_best(self) -> None:
        """Copies to the CPU, as in a resumed run."""
        self.best = {part: {name: v.cpu().clone() for name, v in state.items()} for part, state in self.latest().items()}


def save_learner(path: Path, learner: Learner, rows: list[Row], params: Mapping[str, Any]) -> None:
    """The whole state after an epoch, with the rows so far and the params it follows from. The state before it is kept too."""
    state = {
        "rows": rows,
        "network": learner.network.state_dict(),
        "criterion": learner.criterion.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average": None if learner.average is None else learner.average.state_dict(),
        "best": learner.best,
        "generator": learner.generator.get_state(),
        "torch_rng": torch.get_rng_state(),  # of layers that draw, such as dropout
        "params": dict(params),
    }
    if learner.generator.device.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state()
    if path.exists():
        path.replace(_before(path))
    save_state(path, state)


def _before(path: Path) -> Path:
    """Where the state before the last one is."""
    return path.with_name(f"{path.name}.before")


def resume_learner(path: Path, learner: Learner, params: Mapping[str, Any]) -> list[Row]:
    """Puts a learner where `save_learner` left it, or, where that file is damaged, an epoch earlier, and returns the rows so far;
    none where there is neither. Raises ValueError for the state of a training with other params."""
    state = kept_state(path) or kept_state(_before(path))
    if state is None:
        return []
    if state["params"] != dict(params):
        raise ValueError(f"{path} is from a training run with other params; delete it to restart training")
    learner.network.load_state_dict(state["network"])
    learner.criterion.load_state_dict(state["criterion"])
    learner.optimizer.load_state_dict(state["optimizer"])
    if learner.average is not None:
        learner.average.load_state_dict(state["average"])
    learner.best = state["best"]
    learner.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch_rng"])
    if "cuda_rng" in state and learner.generator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"])
    rows: list[Row] = state["rows"]
    print(f"going on after epoch {len(rows)} from {path.parent}", file=sys.stderr)
    return rows
