"""What params.yaml says in several places must agree. Each function returns one line a problem."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.params.sizes import size_problems
from pipeline.params.values import CLOSE

if TYPE_CHECKING:
    from pipeline.params.dataset import Dataset
    from pipeline.params.schema import Method, Params

PUBLISHED = Path(__file__).parents[1] / "reporting/published.csv"
PAPERS = ("fgsm", "bim", "mim")  # besides pgd: must mean the attack of that name, which tables set beside the papers' values
RESERVED = (  # what outcomes and tables call other things
    *("clean", "noise", "autoattack", "adaptive", "robust", "unbounded"),
    *("ce", "dlr", "joint", "joint_t", "features", "sibling", "log", "rescaled", "bpda", "eot"),
)
RESERVED_BEGINNINGS = ("adaptive_", "autoattack_", "noise_")
HEADINGS = ("method", "attack", "source", "mean rank", "Nemenyi p")  # of columns beside which labels stand
LOGITS, MEMBERS = "logits", "members"  # layers that every network and every ensemble has besides its own
PRETRAIN = "softmax"  # the method of stage pretrain

Lookups = Mapping[str, Mapping[str, Callable[..., Any]]]


def disagreements(params: Params, lookups: Lookups) -> list[str]:
    """Everything below. `lookups` as in load_params; without them, layers, prototypes and options are not checked."""
    problems = unknown_names(params) + results_names(params) + measurements(params, lookups.get("losses"))
    problems += pretraining(params) + given_models(params) + autoattack_parts(params, lookups.get("attacks"))
    for name, dataset in params.datasets.items():
        problems += dataset_values(f"datasets.{name}", dataset)
    for name, method in params.methods.items():
        problems += method_values(f"methods.{name}", method, lookups.get("losses")) + modern_values(f"methods.{name}", method)
    trained = [name for name in (PRETRAIN, *params.run.methods, *params.transfer.sources) if name in params.methods]
    for name in [name for name in params.run.datasets if name in params.datasets]:
        problems += [problem for method in trained for problem in together(params, name, method, lookups.get("networks"))]
        methods = {method: params.methods[method] for method in trained if params.methods[method].given is None}
        problems += size_problems(f"datasets.{name}", params.datasets[name], methods, lookups.get("networks", {}))
    return [*dict.fromkeys(problems)]


@cache
def published_keys() -> frozenset[str]:
    """The methods of the papers, as published.csv calls them, and one that pcl table 9 names without a figure."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return frozenset(row["key"] for row in csv.DictReader(file) if row["key"]) | {"softmax_deep"}


def unknown_names(params: Params) -> list[str]:
    """Names that must exist elsewhere in the file, or in published.csv."""
    run, methods = params.run, params.methods
    used: list[tuple[str, Iterable[str], Collection[str]]] = [
        ("run.datasets", run.datasets, params.datasets),
        ("run.attacks", run.attacks, params.attacks),
        ("run.methods", run.methods, methods),
        ("transfer.sources", params.transfer.sources, methods),
        ("transfer.methods", params.transfer.methods, methods),
        ("planes.methods", params.planes.methods, methods),
        ("cost.methods", params.cost.methods, methods),
        ("verdict.autoattack", [params.verdict.autoattack], params.autoattack),
        ("verdict.confirm", [params.verdict.confirm] if params.verdict.confirm else [], params.autoattack),
        ("statistics.compare", params.statistics.compare, published_keys()),
    ]
    used += [
        (f"methods.{n}.published", [m.published], published_keys()) for n, m in methods.items() if m.published not in (None, n)
    ]
    return [
        f"{path}: unknown {name!r}, choose from {', '.join(sorted(known))}"
        for path, names, known in used
        for name in names
        if name not in known
    ]


def results_names(params: Params) -> list[str]:
    """Names in results must not stand for two things."""
    problems = [
        f"attacks.{name}: this name is reserved, choose another one; reserved are {', '.join(RESERVED)} and names that "
        f"begin with {', '.join(RESERVED_BEGINNINGS)}"
        for name in params.attacks
        if name in RESERVED or name.startswith(RESERVED_BEGINNINGS)
    ]
    problems += [
        f"attacks.{name}: must be the attack {name}, whose row stands beside the papers', got {params.attacks[name].name!r}"
        for name in PAPERS
        if name in params.attacks and params.attacks[name].name != name
    ]
    shown = {name: params.methods[name] for name in (*params.run.methods, *params.transfer.sources) if name in params.methods}
    labels, keys = [method.label for method in shown.values()], [method.published for method in shown.values()]
    problems += [f"methods.{n}.label: {m.label!r} is the heading of a column" for n, m in shown.items() if m.label in HEADINGS]
    problems += [
        f"methods: label {label!r} stands for more than one of the run" for label in set(labels) if labels.count(label) > 1
    ]
    problems += [
        f"methods: more than one of the run has published: {key}"
        for key in set(keys)
        if key in published_keys() and keys.count(key) > 1
    ]
    return problems


def measurements(params: Params, losses: Mapping[str, Callable[..., Any]] | None) -> list[str]:
    """What is measured besides run.attacks: whether the methods and attacks are there, and can be measured so."""
    methods, attacks, problems = params.methods, params.attacks, []
    no_eps = [name for name in params.run.attacks if name in attacks and attacks[name].name == "cw"]
    problems += [f"run.attacks: {name} takes no eps; `cw` in a method's `measure` runs it" for name in no_eps]
    for name, user in (("cw", "stage transfer runs"), ("pgd", "stages planes and attack run")):
        if name not in attacks or attacks[name].name != name:
            problems.append(f"attacks.{name}: is missing or another attack; {user} it")
    for name, method in methods.items():
        if "adaptive" in method.measure and losses is not None and not (method.loss and by_image(losses[method.loss.name])):
            known = ", ".join(loss for loss in losses if by_image(losses[loss]))
            problems.append(f"methods.{name}.measure: adaptive needs one of the losses {known}")
    drawn = [name for name in params.planes.methods if name in methods and methods[name].ensemble > 1]
    problems += [f"planes.methods: methods.{name} is an ensemble, which has no one penultimate layer" for name in drawn]
    timed = [methods[name] for name in params.cost.methods if name in methods]
    if len({(method.network, method.ensemble) for method in timed}) > 1:
        problems.append("cost.methods: must all have the same network and ensemble, else their times are not comparable")
    return problems


def by_image(loss: Callable[..., Any]) -> bool:
    return bool(loss.by_image)  # type: ignore[attr-defined]


def pretraining(params: Params) -> list[str]:
    """What stage pretrain trains, and what is trained for transfer alone."""
    softmax, sources = params.methods.get(PRETRAIN), params.transfer.sources
    problems = []
    if softmax is None or softmax.init != "random" or softmax.adversary is not None:
        problems.append(f"methods.{PRETRAIN}: must be there with init: random and without adversary; stage pretrain trains it")
    if PRETRAIN in (*params.run.methods, *sources):
        problems.append(
            f"run.methods, transfer.sources: {PRETRAIN} is trained by stage pretrain; take softmax_fs, or a method on it"
        )
    wrong = [name for name in sources if name in params.methods and params.methods[name].init != "random"]
    problems += [f"transfer.sources: takes methods with init: random, which methods.{name}.init is not" for name in wrong]
    both = [name for name in sources if name in params.run.methods]
    return problems + [f"transfer.sources: {name} is in run.methods too; name it in transfer.methods" for name in both]


def given_models(params: Params) -> list[str]:
    """A model from elsewhere is not trained, and says nothing of how."""
    plain, problems = params.methods.get(PRETRAIN), []
    for name, method in params.methods.items():
        if method.given is None or plain is None:
            continue
        row = {"label", "papers", "published", "measure", "given"}
        other = [key for key in type(method).model_fields if key not in row and getattr(method, key) != getattr(plain, key)]
        problems += [f"methods.{name}.{key}: a given model is not trained; take base: {PRETRAIN}, without this" for key in other]
        used = {"planes.methods": params.planes.methods, "cost.methods": params.cost.methods, "stage pretrain": [PRETRAIN]}
        problems += [f"methods.{name}.given: {where} trains {name}" for where, names in used.items() if name in names]
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


def dataset_values(path: str, dataset: Dataset) -> list[str]:
    problems, measured = [], dataset.evaluation
    for name, (low, high) in dataset.training.adversary_eps.items():
        if low > high:
            problems.append(f"{path}.training.adversary_eps.{name}: must be [low, high], got [{low}, {high}]")
        elif high == 0:
            problems.append(f"{path}.training.adversary_eps.{name}: the upper end must be above 0, got [{low}, {high}]")
    for where, value, known in (
        ("table.eps", measured.table.eps, measured.linf.eps),
        ("table.c", measured.table.c, measured.l2.c),
        ("headline.eps", measured.headline.eps, measured.linf.eps),
    ):
        if value not in known:
            problems.append(f"{path}.evaluation.{where}: must be one of those measured, {known}, got {value}")
    if isinstance(seed := dataset.source.options.get("seed", 0), int) and seed >= 2**32:
        problems.append(f"{path}.source.seed: must be less than {2**32}, got {seed}")
    if twice := [eps for eps in measured.linf.sweep if any(abs(eps - other) < CLOSE for other in measured.linf.eps)]:
        problems.append(f"{path}.evaluation.linf.sweep: has {twice}, which linf.eps has too")
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
    if losses is None:
        return []
    loss = losses[method.loss.name](2, 2, **method.loss.options) if method.loss else None
    has = sorted({name for name, _ in loss.named_parameters()}) if loss else []
    given = sorted(name for name, settings in method.prototypes.items() if settings)
    if has == given:
        return []
    wanted, found = ", ".join(has) or "empty", ", ".join(given) or "none"
    hint = "; an inherited kind goes where it is left empty, as in `radii:`" if {*given} - {*has} else ""
    return [f"{path}.prototypes: must be {wanted} as in the loss, got {found}{hint}"]


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
    """A method on a data set: the network, epochs, optimizer, range of eps and layers that it names must be there."""
    data, recipe, where = params.datasets[dataset], params.methods[method], f"methods.{method}"
    named: list[tuple[str, str, str, Collection[str]]] = [
        (f"{where}.network", recipe.network, "networks", data.networks),
        (f"{where}.epochs", recipe.epochs, "training.epochs", data.training.epochs),
        (f"{where}.optimizer", recipe.optimizer, "training.optimizers", data.training.optimizers),
    ]
    if recipe.adversary is not None:
        named.append((f"{where}.adversary.eps", recipe.adversary.eps, "training.adversary_eps", data.training.adversary_eps))
    if method in params.planes.methods:
        named.append(("planes.methods", "planes", "training.optimizers", data.training.optimizers))
    problems = [
        f"{key}: {name!r} is not in datasets.{dataset}.{path} ({', '.join(known)})"
        for key, name, path, known in named
        if name not in known
    ]
    softmax = params.methods.get(PRETRAIN)
    if recipe.init == "softmax" and softmax and (recipe.network, recipe.ensemble) != (softmax.network, softmax.ensemble):
        problems.append(f"{where}.init: softmax needs the network and ensemble of methods.{PRETRAIN}")
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
