"""What params.yaml says in several places must agree. Each function returns one line a problem."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.params.schema import Dataset, Method, Params

RESERVED = (  # what outcomes and tables call other things
    *("clean", "noise", "noise_sample", "noise_batch", "autoattack", "autoattack_l2", "adaptive", "robust", "unbounded"),
)
LOGITS, MEMBERS = "logits", "members"  # layers that every network and every ensemble has besides its own


def disagreements(params: Params, lookups: Mapping[str, Mapping[str, Callable[..., Any]]]) -> list[str]:
    """Everything below. `lookups` as in load_params; without networks or losses, layers and prototypes are not checked."""
    problems = unknown_names(params) + measurements(params, lookups.get("losses")) + run_lists(params)
    problems += autoattack_parts(params, lookups.get("attacks"))
    for name, dataset in params.datasets.items():
        problems += dataset_values(f"datasets.{name}", dataset)
    for name, method in params.methods.items():
        problems += method_values(f"methods.{name}", method, lookups.get("losses"))
        problems += modern_values(f"methods.{name}", method)
    run = params.run
    used = ["softmax", *run.finetune, *run.scratch, *params.planes.methods, *params.cost.methods]
    trained = [name for name in dict.fromkeys(used) if name in params.methods]
    for name in [name for name in run.datasets if name in params.datasets]:
        problems += [problem for recipe in trained for problem in together(params, name, recipe, lookups.get("networks"))]
    return problems


def unknown_names(params: Params) -> list[str]:
    """Names that must exist elsewhere in the file."""
    run = params.run
    used: list[tuple[str, Iterable[str], Collection[str]]] = [
        ("run.datasets", run.datasets, params.datasets),
        ("run.attacks", run.attacks, params.attacks),
        ("run.methods", run.methods, params.methods),
        ("run.finetune", run.finetune, params.methods),
        ("run.scratch", run.scratch, params.methods),
        ("run.hcp", run.hcp, run.methods),
        ("run.pcl", run.pcl, run.methods),
        ("measure", params.measure, params.methods),
        ("transfer.sources", params.transfer.sources, [*run.finetune, *run.scratch]),
        ("planes.methods", params.planes.methods, params.methods),
        ("cost.methods", params.cost.methods, params.methods),
        ("verdict.autoattack", [params.verdict.autoattack], params.autoattack),
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


def measurements(params: Params, losses: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """What is measured besides run.attacks: whether the methods and attacks are there, and can be measured so."""
    methods, attacks, problems = params.methods, params.attacks, []
    no_eps = [name for name in params.run.attacks if name in attacks and attacks[name].name == "cw"]
    problems += [f"run.attacks: {name} takes no eps; `cw` in measure.METHOD runs it" for name in no_eps]
    for name, user in (("cw", "stage transfer runs"), ("pgd", "stages planes and verdict run")):
        if name not in attacks or attacks[name].name != name:
            problems.append(f"attacks.{name}: is missing or another attack; {user} it")
    problems += [
        f"measure.{name}: is missing; [] measures run.attacks alone" for name in params.run.methods if name not in params.measure
    ]
    for name, kinds in params.measure.items():
        loss = methods[name].loss if name in methods else None
        if "adaptive" in kinds and name in methods and losses is not None and (loss is None or not _by_image(losses[loss.name])):
            known = ", ".join(loss for loss in losses if _by_image(losses[loss]))
            problems.append(f"measure.{name}: adaptive needs a method with one of the losses {known}")
    for name in params.planes.methods:
        if name in methods and methods[name].ensemble > 1:
            problems.append(f"planes.methods: methods.{name} is an ensemble, which has no one penultimate layer")
    timed = [methods[name] for name in params.cost.methods if name in methods]
    if params.cost.methods[0] != "softmax_fs":
        problems.append("cost.methods: must begin with softmax_fs, which the times of the others are multiples of")
    if len({(method.network, method.ensemble) for method in timed}) > 1:
        problems.append("cost.methods: must have one network and ensemble, or their times do not compare")
    return problems


def autoattack_parts(params: Params, attacks: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """Parts of AutoAttack are run in l-inf and in l2."""
    either = [name for name, attack in (attacks or {}).items() if "norm" in inspect.signature(attack).parameters]
    return [
        f"autoattack.{version}.{part}.name: must be one of {', '.join(either)}, which take either norm, got {choice.name!r}"
        for version, parts in params.autoattack.items()
        for part, choice in parts.items()
        if attacks is not None and choice.name not in either
    ]


def _by_image(loss: Callable[..., Any]) -> bool:
    return bool(loss.by_image)  # type: ignore[attr-defined]


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
    sources = params.transfer.sources
    untrained = sorted({*run.methods} - {*run.finetune, *run.scratch, "softmax"})
    unlisted = sorted({*run.finetune, *run.scratch} - {*run.methods, *sources})
    if untrained or unlisted:
        problems.append(
            "run.methods: must be all of run.finetune and run.scratch, save those that are only transfer.sources; "
            f"too many {untrained}, missing {unlisted}"
        )
    return problems


def dataset_values(path: str, dataset: Dataset) -> list[str]:
    problems = []
    for name, (low, high) in dataset.training.adversary_eps.items():
        if low > high:
            problems.append(f"{path}.training.adversary_eps.{name}: must be [low, high], got [{low}, {high}]")
    evaluation = dataset.evaluation
    if dataset.headline_eps not in evaluation.eps:
        problems.append(f"{path}.headline_eps: must be one of evaluation.eps {evaluation.eps}, got {dataset.headline_eps}")
    if dataset.headline_c not in evaluation.c:
        problems.append(f"{path}.headline_c: must be one of evaluation.c {evaluation.c}, got {dataset.headline_c}")
    if twice := [eps for eps in evaluation.sweep if eps in evaluation.eps]:
        problems.append(f"{path}.evaluation.sweep: has {twice}, which evaluation.eps has too")
    return problems


def method_values(path: str, method: Method, losses: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """Loss, layers and prototypes of one method. Which prototypes a loss has is seen by making one."""
    if (method.loss is None) != (not method.layers):
        return [f"{path}: loss and layers go together; got loss {method.loss and method.loss.name!r} and layers {method.layers}"]
    if not method.cross_entropy and not {LOGITS, MEMBERS} & {*method.layers}:
        return [f"{path}.cross_entropy: is 0, and without a loss on logits or members nothing trains the classifier"]
    if method.loss and method.loss.name == "adp" and (method.layers != [MEMBERS] or method.ensemble < 2):
        return [f"{path}.layers: loss adp goes on [members] of an ensemble of 2 or more"]
    if method.adversary and method.adversary.attack.name == "cw":
        return [f"{path}.adversary.attack: cw takes no eps, choose one that does"]
    if method.loss and method.loss.name == "atda" and not (method.adversary and method.adversary.clean_share):
        return [f"{path}.adversary: loss atda compares clean with attacked images, so it needs one with a clean_share above 0"]
    if method.loss is None or losses is None:
        return []
    loss = losses[method.loss.name](2, 2, **method.loss.options)
    has = sorted({name for name, _ in loss.named_parameters()})
    if has == sorted(method.prototypes):
        return []
    given = ", ".join(sorted(method.prototypes)) or "none"
    return [f"{path}.prototypes: must be {', '.join(has) or 'empty'} as in the loss, got {given}"]


def modern_values(path: str, method: Method) -> list[str]:
    """What TRADES, its attack and the choice of the best epoch need."""
    adversary, problems = method.adversary, []
    if method.trades and not (adversary and adversary.clean_share and method.cross_entropy):
        problems.append(
            f"{path}.trades: compares clean with attacked images beside the cross entropy of the clean ones, so it needs "
            "an adversary with a clean_share above 0, and a cross_entropy above 0"
        )
    if adversary and adversary.labels == "soft" and adversary.attack.name != "pgd":
        problems.append(
            f"{path}.adversary.labels: soft needs attack pgd, others start where the divergence has no gradient; "
            f"got {adversary.attack.name}"
        )
    if adversary and method.keep == "best" and adversary.attack.name != "pgd":
        problems.append(
            f"{path}.keep: best is by the accuracy under adversary.attack, which must be pgd: a weaker one chooses what only looks "
            f"robust; got {adversary.attack.name}"
        )
    return problems


def together(params: Params, dataset: str, method: str, networks: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """A method on a data set: the network, number of epochs, range of eps and layers that it names must be there."""
    data, recipe, where = params.datasets[dataset], params.methods[method], f"methods.{method}"
    named: list[tuple[str, str, str, Collection[str]]] = [
        ("network", recipe.network, "networks", data.networks),
        ("epochs", recipe.epochs, "training.epochs", data.training.epochs),
    ]
    if recipe.adversary is not None:
        named.append(("adversary.eps", recipe.adversary.eps, "training.adversary_eps", data.training.adversary_eps))
    problems = [
        f"{where}.{key}: {name!r} is not in datasets.{dataset}.{path} ({', '.join(known)})"
        for key, name, path, known in named
        if name not in known
    ]
    softmax = params.methods.get("softmax")
    if recipe.init == "softmax" and softmax and (recipe.network, recipe.ensemble) != (softmax.network, softmax.ensemble):
        problems.append(f"{where}.init: softmax needs the network and ensemble of methods.softmax")
    if networks is not None and recipe.network in data.networks:
        name = data.networks[recipe.network].name
        layers = [*networks[name].LAYERS, LOGITS, *([MEMBERS] if recipe.ensemble > 1 else [])]  # type: ignore[attr-defined]
        problems += [
            f"{where}.{key}: {name} has no {layer!r}, choose from {', '.join(layers)}"
            for key, chosen in (("layers", recipe.layers), ("auxiliary", recipe.auxiliary))
            for layer in chosen
            if layer not in layers
        ]
    return problems
