"""One file an item of dvc.yaml: the values of params.yaml that it depends on, merged and resolved, and the code that it uses.

Items depend on these files and on nothing else of params.yaml or the code; so a change concerns the items whose file it changes.
resolve.py writes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.params.choices import AttackChoice, NetworkChoice, SourceChoice, problems_of
from pipeline.params.dataset import Augment, Optimizer, Sample, Validation
from pipeline.params.measured import Adaptive, FollowUp, Noise
from pipeline.params.merge import ParamsError
from pipeline.params.schema import Attacked, Objective
from pipeline.params.values import Strict
from pipeline.runtime.sums import read_whole, write_sums

FOLDER = Path("data/items")
Code = dict[str, str]  # file, seen from the root: its sha256


class Compute(Strict):
    """precision: of the item's own work, training or attacks."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    threads: int


class Adversary(Attacked):
    eps: tuple[float, float]


class Recipe(Objective):
    """How one model is trained: a method with the values of the data set that it names."""

    network: NetworkChoice
    epochs: int
    batch_size: int
    augment: Augment
    optimizer: Optimizer
    prototypes: dict[str, Optimizer]
    adversary: Adversary | None


class DataItem(Strict):
    source: SourceChoice
    sample: Sample
    validation: Validation
    code: Code


class ModelItem(Strict):
    """What items of a data set's models have in common."""

    dataset: str
    compute: Compute
    code: Code


class TrainItem(ModelItem):
    """given_files: code and weights of a model from elsewhere."""

    method: str
    recipe: Recipe
    given_files: Code


class VerdictSettings(Strict):
    """The verdict: parts of AutoAttack in l-inf at `eps` and, where it is measured, in l2 at `l2`; `confirm`: those of a second
    version, by version/part, or none."""

    eps: float
    l2: float | None
    images: Literal["all"] | int
    autoattack: dict[str, AttackChoice]
    confirm: dict[str, AttackChoice]
    adaptive: Adaptive
    follow_up: FollowUp
    steps: list[int]
    examples: int


class AttackItem(ModelItem):
    """attacks: l-inf, at each of `eps`; what else is measured, where it is: cw at each of `c`, adaptive attacks at `adaptive_eps`,
    noise."""

    method: str
    attacks: dict[str, AttackChoice]
    eps: list[float]
    cw: AttackChoice | None
    c: list[float]
    cw_images: int
    adaptive_eps: float | None
    noise: Noise | None
    verdict: VerdictSettings
    pgd: AttackChoice
    images: Literal["all"] | int
    keep_images: Literal["all", "none"] | int
    batch_size: int


class TransferItem(ModelItem):
    sources: list[str]
    targets: list[str]
    attacks: dict[str, AttackChoice]
    eps: float
    cw: AttackChoice
    c: float
    cw_images: int
    images: Literal["all"] | int
    batch_size: int


class PlanesItem(ModelItem):
    recipes: dict[str, Recipe]
    epochs: list[int]
    seed: int
    pgd: AttackChoice
    eps: float
    images: Literal["all"] | int
    batch_size: int
    attack_precision: Literal["fp32", "bf16"]


class CostItem(ModelItem):
    recipes: dict[str, Recipe]
    repeats: int
    seed: int


Item = TypeVar("Item", DataItem, TrainItem, AttackItem, TransferItem, PlanesItem, CostItem)


def read_item(kind: type[Item], *path: str) -> Item:
    """data/items/<path>.yaml. Raises ParamsError where there is none, or it is not as stage items wrote it."""
    file = item_file(*path)
    if not file.is_file():
        beside = {other.stem for other in file.parent.glob("*.yaml")} or {folder.name for folder in FOLDER.glob("*/")}
        known = ", ".join(sorted(beside)) or "none"
        raise ParamsError(f"{file} does not exist: choose from {known}; `dvc repro items` writes those of params.yaml")
    try:
        text = read_whole(file, FOLDER)
    except ValueError as error:
        raise ParamsError(f"{file} is damaged or changed ({error}); run `dvc repro -f items`") from error
    try:
        return kind.model_validate(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), strict=False)
    except ValidationError as error:
        raise ParamsError(f"{file} was written by other code ({problems_of(error)[0]}); run `dvc repro items`") from error


def write_item_files(items: Mapping[tuple[str, ...], Strict | dict[str, Any]]) -> None:
    """Of all items of a run, by path, with their checksums."""
    for path, item in items.items():
        file = item_file(*path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(item_text(item), encoding="utf-8")
    write_sums(FOLDER)


def item_text(item: Strict | dict[str, Any]) -> str:
    """What is in its file."""
    values = dict(item) if isinstance(item, dict) else item.model_dump(mode="json")
    values["code"] = values.pop("code")  # at the end, where it hides nothing
    return yaml.dump(values, Dumper=Plain, sort_keys=False, allow_unicode=True)


class Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Nothing by reference."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def item_file(*path: str) -> Path:
    return FOLDER.joinpath(*path).with_suffix(".yaml")
