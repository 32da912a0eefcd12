"""A trained model as its file has it, and the images that it is tested on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.data.batches import to_float
from pipeline.data.image_set import Splits
from pipeline.jobs.learner import build_network, on_device, recipe_criterion
from pipeline.models.network import Network
from pipeline.runtime.checkpoint import check_finite, check_params, load_state
from pipeline.training.criterion import Criterion


def test_images(splits: Splits, images: str | int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All of the test split, or the first `images`: (N, C, H, W) in [0, 1] and labels (N,)."""
    count = len(splits.test.images) if isinstance(images, str) else images
    pixels, labels = (part[:count] for part in on_device(splits.test, device))
    return to_float(pixels), labels


def load_model(path: str | Path, device: torch.device, **wanted: str | int) -> tuple[Network, Criterion, dict[str, Any]]:
    """A trained network, its criterion with the prototypes, and the params that made them, from the model file alone. Raises
    ValueError as load_state, for other params than `wanted`, for numbers that are not finite, and for a file that this code cannot
    build a model from."""
    state = load_state(path, device)
    try:
        params, recipe = state["params"], state["params"]["recipe"]
        network = _given_network(params, device) if recipe["given"] else _own_network(params)
        criterion = recipe_criterion(recipe, network, params["classes"])
        network.load_state_dict(state["network"])
        criterion.load_state_dict(state["criterion"])
    except torch.OutOfMemoryError:  # a RuntimeError, but of the machine
        raise
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} was made by another version of this code ({reason}); `dvc repro` trains it again") from None
    check_params(path, params, **wanted)
    check_finite(path, {part: state[part] for part in ("network", "criterion")})
    network = network.to(device) if recipe["given"] else network.to(device).to(memory_format=torch.channels_last)
    return network, criterion.to(device), dict(params)


def _own_network(params: Mapping[str, Any]) -> Network:
    recipe, unknown = params["recipe"], torch.ones(params["channels"])  # the weights bring the true mean and std
    choice = dict(recipe["network"])
    if "weights" in choice:
        choice["weights"] = "none"  # those to start from; the file brings its own
    return build_network(choice, recipe["ensemble"], params["classes"], unknown, unknown)


def _given_network(params: Mapping[str, Any], device: torch.device) -> Network:
    from pipeline.jobs.adopt import given_network  # code that counts for models from elsewhere alone

    return given_network(params, device)


def model_of(
    dataset: str, method: str, seed: int, splits: Splits, device: torch.device
) -> tuple[Network, Criterion, dict[str, Any]]:
    """`load_model` of models/DATASET/METHOD/SEED.pt, which must be that model, for images as those of `splits`."""
    wanted = {"classes": len(splits.classes), "channels": len(splits.mean)}
    return load_model(f"models/{dataset}/{method}/{seed}.pt", device, dataset=dataset, method=method, seed=seed, **wanted)
