"""One file an item of dvc.yaml: the values of params.yaml that it hangs on, merged and resolved, and the code that it uses.

Items depend on these files and on nothing else of params.yaml or the code; so a change concerns the items whose file it changes.
resolve.py writes them.
"""

from pathlib import Path
from typing import Literal, TypeVar

import yaml

from pipeline.params.choices import AttackChoice, LossChoice, NetworkChoice, SourceChoice
from pipeline.params.measured import Adaptive, FollowUp, Noise
from pipeline.params.merge import ParamsError
from pipeline.params.schema import Augment, GivenModel, Optimizer, Sample, Validation, WeightPerturbation
from pipeline.params.values import Strict

FOLDER = Path("data/items")
Code = dict[str, str]  # file, seen from the root: its sha256


class Compute(Strict):
    """precision: of the item's own work, training or attacks."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    threads: int


class Adversary(Strict):
    """As AdversarialTraining, with the range of eps itself."""

    clean_share: float
    eps: tuple[float, float]
    labels: Literal["true", "predicted", "soft"]
    attack: AttackChoice


class Recipe(Strict):
    """How one model is trained: a method with the values of the data set that it names."""

    network: NetworkChoice
    ensemble: int
    init: Literal["softmax", "random"]
    epochs: int
    batch_size: int
    augment: Augment
    optimizer: Optimizer
    cross_entropy: float
    layers: list[str]
    loss: LossChoice | None
    prototypes: dict[str, Optimizer]
    auxiliary: list[str]
    input_gradient: float
    trades: float
    adversary: Adversary | None
    awp: WeightPerturbation | None
    ema: float
    keep: Literal["last", "best"]
    given: GivenModel | None


class DataItem(Strict):
    source: SourceChoice
    sample: Sample
    validation: Validation
    code: Code


class TrainItem(Strict):
    """given_files: code and weights of a model from elsewhere."""

    dataset: str
    method: str
    recipe: Recipe
    compute: Compute
    code: Code
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


class AttackItem(Strict):
    """attacks: l-inf, at each of `eps`; what else is measured, where it is: cw at each of `c`, adaptive attacks at `adaptive_eps`,
    noise."""

    dataset: str
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
    compute: Compute
    code: Code


class TransferItem(Strict):
    dataset: str
    sources: list[str]
    targets: list[str]
    attacks: dict[str, AttackChoice]
    eps: float
    cw: AttackChoice
    c: float
    cw_images: int
    images: Literal["all"] | int
    batch_size: int
    compute: Compute
    code: Code


class PlanesItem(Strict):
    dataset: str
    recipes: dict[str, Recipe]
    epochs: list[int]
    seed: int
    pgd: AttackChoice
    eps: float
    images: Literal["all"] | int
    batch_size: int
    compute: Compute
    attack_precision: Literal["fp32", "bf16"]
    code: Code


class CostItem(Strict):
    dataset: str
    recipes: dict[str, Recipe]
    repeats: int
    seed: int
    compute: Compute
    code: Code


Item = TypeVar("Item", DataItem, TrainItem, AttackItem, TransferItem, PlanesItem, CostItem)


def read_item(kind: type[Item], *path: str) -> Item:
    """data/items/<path>.yaml. Raises ParamsError where there is none."""
    file = item_file(*path)
    if not file.is_file():
        raise ParamsError(f"{file} does not exist: params.yaml has no such item, or `dvc repro items` has to write it first")
    return kind.model_validate(
        yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)), strict=False
    )


def item_file(*path: str) -> Path:
    return FOLDER.joinpath(*path).with_suffix(".yaml")
