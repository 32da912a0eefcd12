"""Weights that others saved. Nothing in the file is run: tensors and plain values are all that is read."""

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
WRAPPERS = (  # what training scripts put the weights under, the first that is there
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "state", "weights", "params", "ema"),
)
SUFFIXES = (".pt", ".pth", ".pth.tar", ".safetensors")
SHOWN = 4  # names in a message
PLAIN = [np.dtype, np.ndarray, argparse.Namespace, type(np.dtype(np.float64)), type(np.dtype(np.int64))]


def is_weights(path: Path) -> bool:
    """By its name."""
    return path.name.endswith(SUFFIXES)


def read_weights(path: str | Path) -> Any:
    """What is in a .pt, .pth, .pth.tar or .safetensors file, on the CPU. Raises ValueError in one line that says what to do."""
    path = Path(path)
    if path.is_dir():
        inside = [file.name for file in sorted(path.iterdir()) if file.name.endswith(SUFFIXES)]
        raise ValueError(f"{path} is a folder, name a file of weights: {', '.join(inside[:SHOWN]) or 'there is none in it'}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; fetch it again")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:  # torch looks at no checksum
                if broken := file.testzip():
                    raise ValueError(f"{path} is damaged ({broken} has another checksum); fetch it again")
                if any(name.endswith("/constants.pkl") for name in file.namelist()):  # by which torch tells it, too
                    raise ValueError(f"{path} is a TorchScript program: let a function return torch.jit.load of it, as --model")
        with torch.serialization.safe_globals([*PLAIN, _numpy_scalar()]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refused(path, str(error))) from None
    except ValueError:
        raise
    except Exception as error:  # by the kind of damage: RuntimeError, EOFError, KeyError, BadZipFile, OSError...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is cut off, damaged or not a file of weights ({reason[:100]}); fetch it again") from None


def _numpy_scalar() -> Any:
    """How NumPy's numbers are stored; a checkpoint often has one, the best accuracy so far."""
    return type(np.float64(0)).__reduce__(np.float64(0))[0]


def _read_safetensors(path: Path) -> Weights:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise ValueError(f"{path}: to read it, `pip install safetensors`") from None
    try:
        loaded: Weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is cut off, damaged or not a safetensors file ({error}); fetch it again") from None
    return loaded


def _refused(path: Path, reason: str) -> str:
    """Without PyTorch's advice to switch the protection off."""
    _, found, name = reason.partition("GLOBAL ")
    if not found:
        return f"{path} is cut off, damaged or not a file of weights; fetch it again"
    return (
        f"{path} holds Python objects ({name.split()[0]}), which are not loaded, since that runs code: save "
        "`model.state_dict()` where it was made"
    )


def find_weights(content: Any) -> tuple[Weights, str, list[str]]:
    """The weights in what a file holds; the names of the wrappers around them, as in `state_dict` or `model.net`; and the names of
    other weights that stand beside, as in `state_dict_ema`. Raises ValueError where there are none, or several without a usual
    name."""
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds {_kind(content)} instead of weights by name")
    if _is_weights(content):
        return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}, "", []
    inner = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, Mapping) and next(_tensors(value), None) is not None
    }
    known = [name for name in WRAPPERS if name in inner] or list(inner)
    if not known or (len(known) > 1 and known[0] not in WRAPPERS):
        raise ValueError(
            f"it has no weights under a usual name ({', '.join(WRAPPERS)}), but {', '.join(map(str, content)) or 'nothing'}"
        )
    weights, deeper, others = find_weights(inner[known[0]])
    shapes = _shapes(weights)
    others += [name for name, value in inner.items() if name != known[0] and shapes & _shapes(value)]
    return weights, known[0] + (f".{deeper}" if deeper else ""), others


def _is_weights(content: Mapping[Any, Any]) -> bool:
    values = [value for value in content.values() if not isinstance(value, int | float)]
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _tensors(content: Any) -> Iterator[Tensor]:
    for value in content.values() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            yield value
        else:
            yield from _tensors(value)


def _shapes(content: Any) -> set[tuple[str, tuple[int, ...]]]:
    """The last two parts of the name of each tensor, however deep, and its shape."""
    found: set[tuple[str, tuple[int, ...]]] = set()
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            found.add((".".join(str(name).split(".")[-2:]), tuple(value.shape)))
        else:
            found |= _shapes(value)
    return found


def _kind(content: Any) -> str:
    return f"a tensor {tuple(content.shape)}" if isinstance(content, Tensor) else f"a {type(content).__name__}"


def put_weights(model: nn.Module, weights: Weights, path: str | Path) -> list[str]:
    """Loads them by name; names in the file, or in the model, may have a prefix in common that the others lack (`module.` of
    DataParallel, `_orig_mod.` of compile). Returns what is worth knowing. Raises ValueError that lists the names and shapes that do
    not fit."""
    wanted = model.state_dict()
    taken, note = _renamed(weights, set(wanted))
    fits = [name for name in wanted if name in taken]
    missing = [name for name in wanted if name not in taken and not _counter(name)]
    unexpected = [name for name in taken if name not in wanted and not _counter(name)]
    other = [name for name in fits if taken[name].shape != wanted[name].shape]
    shapes = [f"{name} {_shape(taken[name])} in the file, {_shape(wanted[name])} in the model" for name in other]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"{path} is of another network ({found}); check the model's name and options")
    not_finite = [name for name in fits if taken[name].is_floating_point() and not taken[name].isfinite().all()]
    if not_finite:
        raise ValueError(f"{path} has weights that are not finite numbers: {_some(not_finite)}")
    model.load_state_dict({name: taken[name] for name in fits}, strict=False)
    return [note] if note else []


def _renamed(weights: Weights, wanted: set[str]) -> tuple[Weights, str]:
    """By the prefix with which most names fit, the shortest of them: left out, or put in front."""
    out = {name[:place] for name in weights for place in _ends(name)} | {""}
    put = {name[:place] for name in wanted for place in _ends(name)}
    ways = [(_without(weights, prefix), f"-{prefix}") for prefix in sorted(out, key=lambda p: (len(p), p))]
    ways += [({prefix + name: value for name, value in weights.items()}, f"+{prefix}") for prefix in sorted(put)]
    taken, how = max(ways, key=lambda way: sum(name in wanted for name in way[0]))
    prefix = how[1:]
    if not prefix or not any(name in wanted for name in taken):
        return weights, ""
    if how[0] == "+":
        return taken, f"those in the file lack `{prefix}`"
    left = [name for name in weights if not name.startswith(prefix)]
    return taken, f"`{prefix}` left out" + (f", {len(left)} names without it not used: {_some(left)}" if left else "")


def _without(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _ends(name: str) -> list[int]:
    """Where prefixes of a name end, each behind a dot."""
    return [place + 1 for place, letter in enumerate(name) if letter == "."]


def _counter(name: str) -> bool:
    """Of batch norm, which does not use it; files from before PyTorch 0.4.1 lack it."""
    return name.endswith("num_batches_tracked")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
