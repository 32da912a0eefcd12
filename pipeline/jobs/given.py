"""A model to be judged, from the command line's words: any classifier with its weights, or a model file of ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.data.lfs import refuse_pointers
from pipeline.jobs.trained import load_model
from pipeline.models.given.build import NORMALISATION, build, source_file
from pipeline.models.given.network import Given
from pipeline.models.given.weights import find_weights, put_weights, read_weights
from pipeline.models.network import Network
from pipeline.runtime.files import file_digest
from pipeline.training.criterion import Criterion

OURS = {"network", "criterion", "params"}  # what a model file of ours has


class Loaded(NamedTuple):
    """normalised: whether a mean and a std were given, or the model is known to have its own; notes: what was found on the way;
    about: what it was made from, plain values."""

    network: Network
    criterion: Criterion
    normalised: bool
    training: bool
    notes: list[str]
    about: dict[str, Any]


def load_given(
    model: str | None,
    options: Mapping[str, Any],
    weights: str | Path | None,
    x: Tensor,
    *,
    classes: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    features: Sequence[str],
) -> Loaded:
    """model: as `build` takes it, or None for a model file of ours, which says itself what it is; x: some images (B, C, H, W), on
    the device; classes: of the data. Raises ValueError in one line."""
    if weights is not None:
        refuse_pointers([Path(weights)])
    content = None if weights is None else read_weights(weights)
    about: dict[str, Any] = {"model": model, "options": dict(options), "weights": None if weights is None else str(weights)}
    if weights is not None:
        about["weights_sha256"] = file_digest(weights)
    if isinstance(content, dict) and set(content) >= OURS and model is None:
        network, criterion, made_with = load_model(str(weights), x.device)
        _check_channels(made_with["channels"], x)
        name = "/".join(str(made_with[part]) for part in ("dataset", "method", "seed"))
        return wrapped(
            network, x, mean, std, features, about | {"made_as": name}, [f"A model file of this project, {name}."], criterion
        )
    if model is None:
        raise ValueError(f"{weights} does not say what network it is of: name that with --model" if weights else "name a --model")
    built = build(model, options, classes=classes, channels=x.shape[1])
    if (file := source_file(model)) is not None:
        about["source_sha256"] = file_digest(file)
    notes = [f"Weights: {weights}."] if weights is not None else ["No weights were given: those that the model is built with."]
    if weights is not None:
        try:
            found, wrapper, others = find_weights(content)
        except ValueError as error:
            raise ValueError(f"{weights}: {error}") from None
        notes += [f"The weights stand under {wrapper} in the file."] if wrapper else []
        notes += [f"The file has other weights, which were not used: {', '.join(others)}."] if others else []
        notes += [f"Names of weights: {note}." for note in put_weights(built, found, weights)]
    if mean is None and std is None and model in NORMALISATION:
        mean, std = NORMALISATION[model]
        notes.append(f"Images are normalised as the release does, by {mean} and {std}.")
    return wrapped(built, x, mean, std, features, about, notes, None)


def wrapped(
    model: nn.Module,
    x: Tensor,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    features: Sequence[str],
    about: dict[str, Any],
    notes: list[str],
    criterion: Criterion | None,
) -> Loaded:
    """As a Network; one of ours is taken as it is, unless a normalisation or layers are given."""
    mean, std = (None if values is None else _numbers(values) for values in (mean, std))
    none = criterion or Criterion({}, {}, "none", cross_entropy=1.0, input_gradient=0.0, trades=0.0)
    training = model.training
    if (mean is None) != (std is None):
        raise ValueError("mean and std go together: give both or neither")
    about |= {"mean": mean, "std": std, "features": list(features)}
    kinds = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}
    if kinds - {torch.float32}:
        notes.append(f"Weights in {', '.join(sorted(str(kind).removeprefix('torch.') for kind in kinds))} were taken to float32.")
        model = model.float()
    if mean is not None and std is not None:
        channels = x.shape[1]
        if len(mean) not in (1, channels) or len(std) not in (1, channels) or min(std) <= 0:
            raise ValueError(f"mean and std need 1 or {channels} numbers, std above 0, got {mean} and {std}")
    elif isinstance(model, Network) and not features:
        return Loaded(model.to(x.device).eval(), none, hasattr(model, "normalize"), training, notes, about)
    shown = [None if values is None else torch.tensor(values) for values in (mean, std)]
    network = Given(model, x, mean=shown[0], std=shown[1], layers=features)
    normalised = mean is not None or isinstance(model, Network)
    return Loaded(network, none, normalised, training, notes, about)


def _numbers(values: Any) -> list[float]:
    """Of a number, a list, an array or a tensor, such as (1, C, 1, 1)."""
    found: list[float] = torch.as_tensor(values, dtype=torch.float64).detach().cpu().flatten().tolist()
    return found


def _check_channels(channels: int, x: Tensor) -> None:
    if channels != x.shape[1]:
        raise ValueError(f"the model takes images of {channels} channels, these have {x.shape[1]}")
