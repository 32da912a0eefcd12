"""What params.yaml says in several places must agree. Each function returns one line a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Dataset, Method, Params

RESERVED = ("clean", "noise_sample", "noise_batch")  # what outcomes call images as they are and the noise measurement


def disagreements(params: Params, lookups: Mapping[str, Mapping[str, Callable[..., Any]]]) -> list[str]:
    """Everything below. `lookups` as in load_params; without networks or losses, layers and prototypes are not checked."""
    problems = unknown_names(params) + run_lists(params)
    for name, dataset in params.datasets.items():
        problems += dataset_values(f"datasets.{name}", dataset)
    for name, method in params.methods.items():
        problems += method_values(f"methods.{name}", method, lookups.get("losses"))
    for name in [name for name in params.run.datasets if name in params.datasets]:
        for recipe in [recipe for recipe in dict.fromkeys(["softmax", *params.run.methods]) if recipe in params.methods]:
            problems += together(params, name, recipe, lookups.get("networks"))
    return problems


def unknown_names(params: Params) -> list[str]:
    """Names that must exist elsewhere in the file."""
    run = params.run
    used: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("run.datasets", run.datasets, params.datasets),
        ("run.attacks", run.attacks, params.attacks),
        ("run.methods", run.methods, params.methods),
        ("run.finetune", run.finetune, params.methods),
        ("run.scratch", run.scratch, params.methods),
        ("statistics.compare", params.statistics.compare, params.methods),
        ("labels", params.labels, params.methods),
    ]
    problems = [
        f"{path}: unknown {name!r}, choose from {', '.join(sorted(known))}"
        for path, names, known in used
        for name in names
        if name not in known
    ]
    problems += [
        f"attacks.{name}: this name is taken, it stands for something else in the results"
        for name in RESERVED
        if name in params.attacks
    ]
    shown = [params.labels.get(name, name) for name in params.methods]
    problems += [f"labels: {label!r} stands for more than one method" for label in dict.fromkeys(shown) if shown.count(label) > 1]
    problems += [f"labels: {label!r} has a |, which breaks tables" for label in shown if "|" in label]
    return problems


def run_lists(params: Params) -> list[str]:
    """The lists of `run` against each other and against the methods' init; DVC cannot derive one from the other."""
    run, problems = params.run, []
    softmax = params.methods.get("softmax")
    if softmax is None:
        problems.append("methods.softmax: is missing; stage pretrain trains it")
    elif softmax.init != "random" or softmax.epochs != "pretrain" or softmax.adversary is not None:
        problems.append("methods.softmax: must have init: random, epochs: pretrain, adversary: null; stage pretrain trains it")
    for path, names, init in (("run.finetune", run.finetune, "softmax"), ("run.scratch", run.scratch, "random")):
        wrong = [name for name in names if name in params.methods and params.methods[name].init != init]
        problems += [f"{path}: takes methods with init: {init}, which methods.{name}.init is not" for name in wrong]
    if "softmax" in run.finetune + run.scratch:
        problems.append("run.finetune, run.scratch: softmax can be in neither, stage pretrain trains it")
    untrained = sorted({*run.methods} - {*run.finetune, *run.scratch, "softmax"})
    unlisted = sorted({*run.finetune, *run.scratch} - {*run.methods})
    if untrained or unlisted:
        problems.append(f"run.methods: must be all of run.finetune and run.scratch; too many {untrained}, missing {unlisted}")
    return problems


def dataset_values(path: str, dataset: Dataset) -> list[str]:
    problems = []
    low, high = dataset.training.adversary_eps
    if low > high:
        problems.append(f"{path}.training.adversary_eps: must be [low, high], got [{low}, {high}]")
    if dataset.headline_eps not in dataset.evaluation.eps:
        problems.append(f"{path}.headline_eps: must be one of evaluation.eps {dataset.evaluation.eps}, got {dataset.headline_eps}")
    return problems


def method_values(path: str, method: Method, losses: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """Loss, layers and prototypes of one method. Which prototypes a loss has is seen by making one."""
    if (method.loss is None) != (not method.layers):
        return [f"{path}: loss and layers go together; got loss {method.loss and method.loss.name!r} and layers {method.layers}"]
    if method.loss is None or losses is None:
        return []
    loss = losses[method.loss.name](2, 1, **method.loss.options)
    has = sorted({name for name, _ in loss.named_parameters()})
    if has == sorted(method.prototypes):
        return []
    given = ", ".join(sorted(method.prototypes)) or "none"
    return [f"{path}.prototypes: must be {', '.join(has) or 'empty'} as in the loss, got {given}"]


def together(params: Params, dataset: str, method: str, networks: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """A method on a data set: its number of epochs and its layers must be there."""
    data, recipe, problems = params.datasets[dataset], params.methods[method], []
    if recipe.epochs not in data.training.epochs:
        lengths = ", ".join(data.training.epochs)
        problems.append(f"methods.{method}.epochs: {recipe.epochs!r} is not in datasets.{dataset}.training.epochs ({lengths})")
    if networks is not None:
        layers = networks[data.network.name].LAYERS  # type: ignore[attr-defined]
        problems += [
            f"methods.{method}.layers: {data.network.name} has no {layer!r}, choose from {', '.join(layers)}"
            for layer in recipe.layers
            if layer not in layers
        ]
    return problems
