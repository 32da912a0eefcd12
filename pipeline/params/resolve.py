"""params.yaml -> the items of the run (items.py)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.models.given.build import module_here, source_file
from pipeline.models.given.weights import is_weights
from pipeline.params.agreement import PRETRAIN
from pipeline.params.choices import AttackChoice, NetworkChoice, SourceChoice
from pipeline.params.code import code_digest, import_graph, sources
from pipeline.params.dataset import Optimizer
from pipeline.params.described import confirmed_by, describe, of_run
from pipeline.params.items import (
    Adversary,
    AttackItem,
    Code,
    Compute,
    CostItem,
    DataItem,
    PlanesItem,
    Recipe,
    TrainItem,
    TransferItem,
    VerdictSettings,
    write_item_files,
)
from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import ParamsError
from pipeline.params.schema import GivenModel, Method, Params
from pipeline.params.values import Strict
from pipeline.runtime.files import file_digest

GIVEN = Path("data/given")
REPORTING = ("tables", "figures", "cards", "report")
ROOT = Path(__file__).parents[2]


def all_items(params: Params) -> dict[tuple[str, ...], Strict | dict[str, Any]]:
    """Every item of the run by the path of its file."""
    items: dict[tuple[str, ...], Strict | dict[str, Any]] = {}
    run, transfer = params.run, params.transfer
    for dataset in run.datasets:
        items[dataset, "data"] = _data(params, dataset)
        for method in (PRETRAIN, *run.methods, *transfer.sources):
            items[dataset, "train", method] = _train(params, dataset, method)
        for method in run.methods:
            items[dataset, "attack", method] = _attack(params, dataset, method)
        items[dataset, "transfer"] = _transfer(params, dataset)
        items[dataset, "planes"] = _planes(params, dataset)
        items[dataset, "cost"] = _cost(params, dataset)
    described = describe(params)
    return items | {(script,): described | {"code": code_of_names(script)} for script in REPORTING}


def write_items(params: Params) -> None:
    """Writes data/items. DVC removes the files of the run before."""
    write_item_files(all_items(params))


def recipe(params: Params, dataset: str, method: str, **changed: Any) -> Recipe:
    """A method on a data set. changed: values in place of the method's."""
    own, data = params.methods[method], params.datasets[dataset].training
    values = {name: getattr(own, name) for name in Recipe.model_fields if name in Method.model_fields}
    adversary = own.adversary and Adversary(**{**dict(own.adversary), "eps": tuple(data.adversary_eps[own.adversary.eps])})
    values |= {
        "network": params.datasets[dataset].networks[own.network],
        "epochs": data.epochs[own.epochs],
        "batch_size": data.batch_size,
        "augment": data.augment,
        "optimizer": data.optimizers[own.optimizer],
        "prototypes": {name: settings for name, settings in own.prototypes.items() if settings},
        "adversary": adversary,
    }
    return Recipe(**{**values, **changed})


def code_of_names(script: str, *further: str, **used: Iterable[str]) -> Code:
    """further: files in pipeline/; used: names by kind of lookup."""
    modules = {LOOKUPS[kind][name].__module__ for kind, names in used.items() for name in names}
    files = [ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules]
    files += [ROOT / "pipeline" / name for name in further]
    found = sources(ROOT, script, files, import_graph(ROOT))
    return {file.relative_to(ROOT).as_posix(): code_digest(file) for file in found}


def _code_of(recipes: Iterable[Recipe], script: str, attacks: Iterable[str] = ()) -> Code:
    recipes = [*recipes]
    return code_of_names(
        script,
        *_optional(recipes, script),
        networks=[name for own in recipes if (name := own.given.model if own.given else own.network.name) in LOOKUPS["networks"]],
        losses=[own.loss.name for own in recipes if own.loss],
        attacks=[*attacks, *(own.adversary.attack.name for own in recipes if own.adversary)],
    )


def _optional(recipes: Iterable[Recipe], script: str) -> Iterable[str]:
    """Files of code.OPTIONAL that the recipes use."""
    for own in recipes:
        yield from ["jobs/adopt.py"] if own.given else []
        yield from ["jobs/prototypes.py"] if own.prototypes and script == "attack" else []
        yield from ["models/ensemble.py"] if own.ensemble > 1 else []
        yield from ["training/awp.py"] if own.awp else []
        yield from ["training/ema.py"] if own.ema else []


def _compute(params: Params, *, attack: bool) -> Compute:
    own = params.compute
    return Compute(device=own.device, precision=own.attack_precision if attack else own.precision, threads=own.threads)


def _linf(params: Params) -> dict[str, AttackChoice]:
    return {name: params.attacks[name] for name in params.run.attacks}


def _data(params: Params, dataset: str) -> DataItem:
    own = params.datasets[dataset]
    source = own.source
    if source.name == "public_set":
        source = SourceChoice(name=source.name, **source.options, **params.images.model_dump())
    return DataItem(source=source, sample=own.sample, validation=own.validation, code=code_of_names("data", sources=[source.name]))


def _train(params: Params, dataset: str, method: str) -> TrainItem:
    own = recipe(params, dataset, method)
    compute = _compute(params, attack=False)
    given = _given_files(own.given, f"methods.{method}.given", dataset, params.run.seeds) if own.given else {}
    return TrainItem(dataset=dataset, method=method, recipe=own, compute=compute, code=_code_of([own], "train"), given_files=given)


def _given_files(given: GivenModel, path: str, dataset: str, seeds: Iterable[int]) -> Code:
    """Of a model from elsewhere: its weights of every seed, and all files in the folder but other weights, since one may read
    another."""
    if place := module_here(given.model):
        raise ParamsError(f"{path}.model: {given.model} is in {place}, whose changes would not count; put it into {GIVEN}")
    named = {file for file in (source_file(given.model), *(given.weights_file(dataset, seed) for seed in seeds)) if file}
    for file in named:
        if ".." in Path(file).parts or not Path(file).absolute().is_relative_to(GIVEN.absolute()):  # a link may lead elsewhere
            raise ParamsError(f"{path}: {file} must be in {GIVEN}, whose files count as dependencies of the run")
        if not Path(file).is_file():
            raise ParamsError(f"{path}: there is no file {file}")
    beside = {file for file in GIVEN.rglob("*") if file.is_file() and not is_weights(file) and not _counts_not(file)}
    return {str(file): file_digest(file) for file in sorted({*map(Path, named), *beside})}


def _counts_not(file: Path) -> bool:
    """What Python, git, DVC and editors keep beside, and what says what the folder is for."""
    left = file.name.startswith(".") or file.name.endswith(("~", ".orig", ".dvc"))
    return left or file.name == "README.md" or "__pycache__" in file.parts


def _attack(params: Params, dataset: str, method: str) -> AttackItem:
    kinds, measured, verdict = params.methods[method].measure, params.datasets[dataset].evaluation, params.verdict
    parts = params.autoattack[verdict.autoattack]
    confirm = confirmed_by(params)
    used = [*_linf(params).values(), *parts.values(), *confirm.values()]
    return AttackItem(
        dataset=dataset,
        method=method,
        attacks=_linf(params),
        eps=measured.linf.eps + (measured.linf.sweep if "sweep" in kinds else []),
        cw=params.attacks["cw"] if "cw" in kinds else None,
        c=measured.l2.c if "cw" in kinds else [],
        cw_images=measured.l2.images if "cw" in kinds else 0,
        adaptive_eps=measured.table.eps if "adaptive" in kinds else None,
        noise=params.noise if "noise" in kinds else None,
        verdict=VerdictSettings(
            eps=measured.headline.eps,
            l2=measured.headline.l2 if "l2" in kinds else None,
            images=measured.headline.images,
            autoattack=parts,
            confirm=confirm,
            **verdict.model_dump(include={"adaptive", "follow_up", "steps", "examples"}),
        ),
        pgd=params.attacks["pgd"],
        **measured.model_dump(include={"images", "keep_images", "batch_size"}),
        compute=_compute(params, attack=True),
        code=_code_of([recipe(params, dataset, method)], "attack", [choice.name for choice in used]),
    )


def _transfer(params: Params, dataset: str) -> TransferItem:
    measured = params.datasets[dataset].evaluation
    own = [*params.transfer.sources, *of_run(params, params.transfer.methods)]
    targets = [*dict.fromkeys([*own, *params.run.methods])]
    code = _code_of([recipe(params, dataset, name) for name in targets], "transfer", [c.name for c in _linf(params).values()])
    return TransferItem(
        dataset=dataset,
        sources=own,
        targets=targets,
        attacks=_linf(params),
        eps=measured.table.eps,
        cw=params.attacks["cw"],
        c=measured.table.c,
        cw_images=measured.l2.images,
        images=measured.images,
        batch_size=measured.batch_size,
        compute=_compute(params, attack=True),
        code=code,
    )


def _planes(params: Params, dataset: str) -> PlanesItem:
    data = params.datasets[dataset]
    optimizer = data.training.optimizers.get("planes")
    recipes = {name: _two_features(params, dataset, name, optimizer) for name in of_run(params, params.planes.methods)}
    return PlanesItem(
        dataset=dataset,
        recipes=recipes,
        epochs=params.planes.epochs,
        seed=params.run.seeds[0],
        pgd=params.attacks["pgd"],
        eps=data.evaluation.table.eps,
        images=data.evaluation.images,
        batch_size=data.evaluation.batch_size,
        compute=_compute(params, attack=False),
        attack_precision=params.compute.attack_precision,
        code=_code_of(recipes.values(), "planes", ["pgd"]),
    )


def _two_features(params: Params, dataset: str, method: str, optimizer: Optimizer | None) -> Recipe:
    """From random weights, with a penultimate layer of two units."""
    own = recipe(params, dataset, method, init="random", optimizer=optimizer)
    return own.model_copy(update={"network": NetworkChoice(**{**own.network.model_dump(), "penultimate": 2})})


def _cost(params: Params, dataset: str) -> CostItem:
    recipes = {name: recipe(params, dataset, name) for name in of_run(params, params.cost.methods)}
    return CostItem(
        dataset=dataset,
        recipes=recipes,
        repeats=params.cost.repeats,
        seed=params.run.seeds[0],
        compute=_compute(params, attack=False),
        code=_code_of(recipes.values(), "cost"),
    )
