"""Models, training states and other kept work on disk. Written whole or not at all, read without executing code, and refused where
a bit of them has changed: PyTorch itself checks no checksum."""

import hashlib
import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.runtime.files import atomic_path

State = dict[str, Any]  # nested dicts and lists of tensors, numbers and strings

END = b"PK\x05\x06"  # begins the last record of a zip archive, which ends in the length of a comment and the comment
END_LENGTH = 22
LABEL = b"sha256 of all bytes before:"
COMMENT = len(LABEL) + hashlib.sha256().digest_size * 2


def save_state(path: str | Path, state: State) -> None:
    """Replaces `path` by `state`, atomically. It is what torch.save writes, a zip archive, with a comment: the sha256 of all that
    stands before it. Other programs read it as they read any .pt file."""
    archive = io.BytesIO()
    torch.save(state, archive)
    content = archive.getbuffer()
    if bytes(content[-END_LENGTH:][:4]) != END:
        raise RuntimeError("torch.save no longer writes a zip archive without a comment")
    content[-2:] = COMMENT.to_bytes(2, "little")
    with atomic_path(path) as partial, partial.open("wb") as file:
        digest = hashlib.sha256(content)
        digest.update(LABEL)
        file.write(content)
        file.write(LABEL + digest.hexdigest().encode())


def load_state(path: str | Path, device: str | torch.device = "cpu") -> State:
    """What `save_state` wrote. Raises ValueError for a file that is missing, that differs in any bit, or that holds anything but
    tensors and plain values."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; `dvc repro` makes it, `dvc checkout` restores it from the cache") from None
    body, digest = memoryview(content)[:-64], content[-64:]
    if bytes(body[-len(LABEL) :]) != LABEL:
        raise ValueError(_damaged(path, "it does not end in a checksum, so it is cut off, or another program wrote it"))
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(_damaged(path, "its checksum is wrong"))
    try:
        state: State = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:  # PyTorch's text tells how to execute code from it
        raise ValueError(_damaged(path, f"it holds more than tensors and plain values: {type(error).__name__}")) from None
    return state


def _damaged(path: str | Path, reason: str) -> str:
    return f"{path} is damaged or not a checkpoint ({reason}); delete it and run `dvc checkout` or `dvc repro`"


def kept_state(path: Path, device: str | torch.device = "cpu") -> State | None:
    """As `load_state`, for work that can be done again: None where there is no such file, or a damaged one, of which stderr
    is told and which goes."""
    if not path.exists():
        return None
    try:
        return load_state(path, device)
    except ValueError as error:
        print(f"{str(error).partition(';')[0]}; it is removed, and what it held is done again", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None


def check_params(path: str | Path, params: Mapping[str, Any], **wanted: str | int) -> None:
    """Raises ValueError where the params in a model's file are others than `wanted`: dataset, method, seed, classes, channels."""
    found = {name: params.get(name) for name in wanted}
    if found != wanted:
        theirs, ours = (", ".join(f"{name} {value}" for name, value in whose.items()) for whose in (found, wanted))
        raise ValueError(f"{path} is a model of {theirs}, not of {ours}; delete it and run `dvc checkout` or `dvc repro`")


def check_finite(path: str | Path, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Raises ValueError where a number in one of the state dicts is none, or infinite."""
    for state in states.values():
        for name, value in state.items():
            if not value.isfinite().all():
                raise ValueError(f"{path} holds numbers that are not finite, in {name}; delete it and run `dvc repro`")


def load_weights(network: nn.Module, path: str | Path, device: str | torch.device, **wanted: str | int) -> None:
    """Puts the weights of a model file into `network`. Raises ValueError for a file with other params than `wanted`, of another
    architecture, for numbers that are not finite, and as load_state."""
    state = load_state(path, device)
    check_params(path, state.get("params", {}), **wanted)
    try:
        check_finite(path, {"network": state["network"]})
        network.load_state_dict(state["network"])
    except (KeyError, RuntimeError):
        raise ValueError(f"{path} does not match the network in params.yaml; `dvc repro` trains it again") from None
