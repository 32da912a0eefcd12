"""Models and training states on disk. Written whole or not at all, read without executing code."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.runtime.files import atomic_path

State = dict[str, Any]  # nested dicts and lists of tensors, numbers and strings


def save_state(path: str | Path, state: State) -> None:
    """Replaces `path` by `state`, atomically."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        torch.save(state, file)


def load_state(path: str | Path, device: str | torch.device = "cpu") -> State:
    """What `save_state` wrote. Raises ValueError for a file that is missing, damaged or holds anything but tensors and plain
    values."""
    try:
        state: State = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; `dvc repro` makes it, `dvc checkout` restores it from the cache") from None
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, KeyError... by the kind of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is damaged or not a checkpoint ({reason}); delete it and run `dvc checkout` or `dvc repro`"
        ) from None
    return state


def load_weights(network: nn.Module, path: str | Path, device: str | torch.device) -> None:
    """Puts the weights of a model file into `network`. Raises ValueError for a file of another architecture, and as load_state."""
    try:
        network.load_state_dict(load_state(path, device)["network"])
    except (KeyError, RuntimeError):
        raise ValueError(f"{path} holds another network than params.yaml describes; `dvc repro` makes it anew") from None
