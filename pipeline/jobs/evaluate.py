"""The verdict on any classifier: `evaluate` for notebooks, `judged` for the command line (evaluate_command.py). Attacks and checks
are those of stage attack (verdict.py)."""

import copy
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.data.array_files import Arrays, check_shapes, checked_part
from pipeline.data.splits import stratified_order
from pipeline.evaluation.beforehand import SOME, Finding, look
from pipeline.evaluation.centres import class_means
from pipeline.evaluation.robustness import attackable, clean_features, summary_metrics
from pipeline.jobs.given import Loaded, wrapped
from pipeline.jobs.threat import Threat, plan_of, threat_of
from pipeline.jobs.verdict import judge
from pipeline.params.code import code_digest
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same

ON_TRAIN = 500  # training images that class means are taken over, besides the first one of each class
CODE = ("attacks", "evaluation", "jobs", "models", "losses")  # rooms that a verdict follows from
DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("fp32", "bf16")
IMAGES = 1000  # that are attacked, unless another number is given


class Evaluation(NamedTuple):
    """outcomes: a row per attack and image, as stage attack writes them (image, label, attack, eps, prediction, correct, linf, l2,
    mse; `autoattack` and `adaptive` are worst cases, `autoattack/apgd_ce` and so on their parts); checks: signs of masked
    gradients, as measured; findings: what was seen beforehand; accuracy: % by attack; examples, features: for the report; about:
    what was judged, and how."""

    outcomes: pd.DataFrame
    checks: dict[str, float]
    findings: list[Finding]
    accuracy: dict[str, float]
    examples: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    about: dict[str, Any]


class Settings(NamedTuple):
    """images: how many of the data are attacked, the first ones; force: go on where a finding says stop."""

    threat: Threat
    images: int | None
    seed: int
    precision: str
    batch_size: int
    force: bool


def evaluate(
    model: nn.Module,
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    eps: float | str,
    norm: str = "linf",
    autoattack: str = "standard",
    count: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    precision: str = "fp32",
    batch_size: int = 128,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    features: Sequence[str] = (),
    train: tuple[Tensor | np.ndarray, Tensor | np.ndarray] | None = None,
    force: bool = False,
    params: str | Path | None = None,
) -> Evaluation:
    """Judges `model`, which stays as it is: a copy of it is attacked. images: (N, C, H, W), uint8 or in [0, 1]; labels: (N,), of
    which the first `count` are taken; eps: also as "8/255"; mean, std: where the model expects normalised images; features: names
    of submodules for the attacks on features; train: images and labels for the class means that these go by. Raises ValueError in
    one line where the model or the images cannot be what was meant, unless `force` is set."""
    threat = threat_of(norm, eps, autoattack, params)
    settings = Settings(threat, count, seed, precision, batch_size, force)
    check_settings(settings, device, threads)
    where = set_up_device(device, threads)
    test = checked_part(*_arrays(images, labels), "images")
    known = None if train is None else checked_part(*_arrays(*train), "train")
    check_shapes(test, known, "train")
    x = on_device(test.images[:2], where)
    about = {"model": f"{type(model).__module__}.{type(model).__qualname__}"}
    loaded = wrapped(_copied(model), x, mean, std, features, about, [], None)
    with tempfile.TemporaryDirectory() as folder:
        return judged(loaded, Arrays(test, known, None), settings, where, Path(folder))


def check_settings(settings: Settings, device: str, threads: int) -> None:
    """Raises ValueError in one line for what is out of range."""
    for name, text, allowed in (("device", device, DEVICES), ("precision", settings.precision, PRECISIONS)):
        if text not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {text!r}")
    numbers = {"batch_size": (settings.batch_size, 1), "threads": (threads, 0), "seed": (settings.seed, 0)}
    numbers |= {} if settings.images is None else {"count": (settings.images, 1)}
    for name, (value, least) in numbers.items():
        if not isinstance(value, Integral) or not least <= value < 2**32:
            raise ValueError(f"{name} must be a whole number from {least} on, below 2^32, got {value!r}")


def _copied(model: nn.Module) -> nn.Module:
    try:
        with torch.no_grad():  # what TorchScript copies are then leaves, as attacks need them
            return copy.deepcopy(model)
    except RuntimeError as error:
        if "graph leaves" not in str(error):
            raise
        raise ValueError(  # weight_norm's weight, or an output that the model keeps
            "the model cannot be copied, since it holds tensors of its last forward: call it once under torch.no_grad() before"
        ) from None


def judged(loaded: Loaded, data: Arrays, settings: Settings, device: torch.device, unfinished: Path) -> Evaluation:
    """The whole of it. What an attack made is kept in a folder below `unfinished` until all is done."""
    threat, seed, batch_size = settings.threat, settings.seed, settings.batch_size
    network = loaded.network
    images = on_device(data.test.images[: settings.images], device)
    labels = torch.from_numpy(data.test.labels[: settings.images]).to(device)
    findings = beforehand(loaded, data, settings, device)
    centres, how = centres_of(loaded, data, images, labels, batch_size=batch_size, seed=seed)
    findings.append(Finding("adaptive attacks", "note", how))
    about = {**loaded.about, **_about(settings, device, len(images))}
    key = _key(network, about, threat, [images, labels, *centres.values()])
    check_same("what is judged", key)
    plan = plan_of(threat, loaded.criterion, centres, images[0], classes=network.classes, batch_size=batch_size)
    victim = attackable(network, images, "bf16" if settings.precision == "bf16" else "fp32")
    outcomes, examples, checks = judge(
        network,
        victim,
        images,
        labels,
        plan,
        threat.linf(images[0]),
        batch_size=batch_size,
        seed=seed,
        unfinished=unfinished / key,
        examples=threat.params.verdict.examples,
    )
    features = dict([list(clean_features(network, images, batch_size=batch_size).items())[-1]])  # of the last layer
    names = np.array(data.classes or [str(number) for number in range(network.classes)], dtype=str)
    on_all = outcomes[~outcomes["attack"].str.startswith("autoattack/")]
    features |= {"label": labels.cpu().numpy(), "layers": np.array(list(features))}
    examples |= {"classes": names}
    return Evaluation(outcomes, checks, findings, summary_metrics(on_all), examples, features, about | {"key": key})


def beforehand(loaded: Loaded, data: Arrays, settings: Settings, device: torch.device) -> list[Finding]:
    """What was seen on loading and by `look`, on SOME images also where fewer are attacked. Raises ValueError for what makes a
    verdict meaningless."""
    network, count = loaded.network, None if settings.images is None else max(settings.images, SOME)
    images, labels = on_device(data.test.images[:count], device), torch.from_numpy(data.test.labels[:count]).to(device)
    if data.classes is not None and len(data.classes) != network.classes:
        raise ValueError(
            f"the model has {network.classes} classes, the data {len(data.classes)}: build it with {len(data.classes)} "
            "(as in --options num_classes=10), or give data of its own"
        )
    findings = [Finding("loading", "note", note) for note in loaded.notes]
    findings += look(
        network, images, labels, batch_size=settings.batch_size, normalised=loaded.normalised, training=loaded.training
    )
    for finding in findings:
        if finding.level == "stop" and not settings.force:
            raise ValueError(f"{finding.text}: {finding.advice}; --force (force=True) judges it all the same")
    return findings


def centres_of(
    loaded: Loaded, data: Arrays, images: Tensor, labels: Tensor, *, batch_size: int, seed: int
) -> tuple[dict[str, Tensor], str]:
    """What the attack on the features takes for the classes' places, {layer: (K, D)}, and how it came about: the model's own
    prototypes, or class means over training images, or where there are none over the images themselves; on the layers that were
    named, the last layer of a network of ours, or the logits."""
    network, own = loaded.network, loaded.criterion.prototypes().get("centres", [])
    if own:
        layers = list(loaded.criterion.losses)
        return dict(
            zip(layers, [centres.detach() for centres in own], strict=True)
        ), f"They know its prototypes on {', '.join(layers)}."
    layers = list(loaded.about["features"]) or list(network.dims)[-1:] or ["logits"]
    x, y, what = images, labels, "the test images, since no training images were given"
    if data.train is not None:
        order = stratified_order(data.train.labels, seed)
        _, first = np.unique(data.train.labels[order], return_index=True)  # a rare class, or one of a thousand, comes later
        order = order[np.union1d(np.arange(len(order))[:ON_TRAIN], first)]
        x, y = on_device(data.train.images[order], images.device), torch.from_numpy(data.train.labels[order]).to(images.device)
        what = f"{len(order)} training images"
    values = clean_features(network, x, batch_size=batch_size)
    try:
        centres = {layer: class_means(torch.from_numpy(values[layer]).to(y.device), y, network.classes) for layer in layers}
    except ValueError as error:
        return {}, f"They work on the logits, by cross entropy and DLR; there are no class means to go by, since {error}."
    on = "the logits, since it has no layers that were named" if layers == ["logits"] else ", ".join(layers)
    return centres, f"By cross entropy, by DLR, and towards the class means of {what} on {on}."


def on_device(images: np.ndarray, device: torch.device) -> Tensor:
    """(N, C, H, W) uint8 or in [0, 1] -> float32 in [0, 1]."""
    pixels = torch.from_numpy(images).to(device, torch.float32)
    return pixels.div_(255) if images.dtype == np.uint8 else pixels


def _arrays(images: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(images, Tensor) and images.dtype == torch.bfloat16:  # which NumPy lacks
        images = images.float()
    found = [value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value) for value in (images, labels)]
    return found[0], found[1]


def identity_of(loaded: Loaded, data: Arrays, settings: Settings) -> str:
    """Of what is judged and how, whatever files it came from."""
    tensors = [torch.from_numpy(values[: settings.images]) for values in data.test]
    values = {**_threat(settings.threat), "seed": settings.seed, "precision": settings.precision}
    return _digest(loaded.network, {**values, "features": loaded.about["features"]}, tensors)


def _about(settings: Settings, device: torch.device, images: int) -> dict[str, Any]:
    threat = settings.threat
    return {
        "norm": threat.norm,
        "eps": threat.eps,
        "images": images,
        "autoattack": threat.autoattack,
        "parts": {part: choice.model_dump() for part, choice in threat.params.autoattack[threat.autoattack].items()},
        "adaptive": threat.params.verdict.adaptive.model_dump(),
        "seed": settings.seed,
        "device": device.type,
        "precision": settings.precision,
        "batch_size": settings.batch_size,
        "threads": torch.get_num_threads(),
    }


def _threat(threat: Threat) -> dict[str, Any]:
    """All that its attacks follow from."""
    params = threat.params
    attacks = {name: choice.model_dump() for name, choice in params.attacks.items()}
    parts = {part: choice.model_dump() for part, choice in params.autoattack[threat.autoattack].items()}
    return {
        **{"norm": threat.norm, "eps": threat.eps, "parts": parts},
        **{"verdict": params.verdict.model_dump(), "attacks": attacks, "papers": params.run.attacks},
    }


def _key(network: nn.Module, about: Mapping[str, Any], threat: Threat, given: Iterable[Tensor]) -> str:
    """What the result follows from: the model's layers and weights, what it is given, the settings, and the code here."""
    code = [code_digest(file) for room in CODE for file in sorted((Path(__file__).parents[1] / room).rglob("*.py"))]
    return _digest(network, {**about, **_threat(threat), "code": code}, given)


def _digest(network: nn.Module, values: Mapping[str, Any], given: Iterable[Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode() + repr(network).encode())
    for name, tensor in [*network.state_dict().items(), *(("", tensor) for tensor in given)]:
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
