"""params.yaml as typed, validated models. The only place that knows the file's shape.

Everything that must be one of several implementations (source, network, loss, attack) is a `Choice`: a `name` and the options of
what it names. The options are checked against the keyword-only parameters of the function or class that the name stands for, so
a new loss brings its own schema with its signature and this file does not change.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.consistency import disagreements

Lookup = Mapping[str, Callable[..., Any]]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]  # becomes part of file and stage names
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]


class ParamsError(ValueError):
    """params.yaml is not usable. The message lists every problem with its path and what is allowed."""


def _each_once(values: list[Any]) -> list[Any]:
    if len({f"{value:g}" if isinstance(value, float) else value for value in values}) < len(values):
        raise ValueError("names something twice")  # numbers as tables print them
    return values


Once = AfterValidator(_each_once)
RULES = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Strict(BaseModel):
    model_config = ConfigDict(**RULES, frozen=True)


class Choice(BaseModel):
    """One of several implementations by `name`; the other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: ClassVar[str]
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _is_known(self, info: ValidationInfo) -> Self:
        lookup = (info.context or {}).get(self.kind)
        if lookup is not None and (problems := _choice_problems(self, lookup)):
            raise PydanticCustomError("choice", "{problems}", {"problems": problems})
        return self


class SourceChoice(Choice):
    kind = "sources"


class NetworkChoice(Choice):
    kind = "networks"


class LossChoice(Choice):
    kind = "losses"


class AttackChoice(Choice):
    kind = "attacks"


class Run(Strict):
    """What `dvc repro` works through: the matrices of dvc.yaml. `methods` is all of `finetune` and `scratch` in the order of the
    tables (DVC cannot join lists); the softmax model that others start from may be among them."""

    datasets: Annotated[list[Name], Field(min_length=1), Once]
    methods: Annotated[list[Name], Field(min_length=1), Once]
    finetune: Annotated[list[Name], Once]
    scratch: Annotated[list[Name], Once]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1), Once]
    attacks: Annotated[list[Name], Field(min_length=1), Once]


class Validation(Strict):
    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


class Augment(Strict):
    pad: Annotated[int, Field(ge=0)]
    flip: bool


class TrainingData(Strict):
    """How a data set is trained on, whatever the method. `epochs` holds named lengths that methods refer to."""

    batch_size: PositiveInt
    epochs: dict[str, PositiveInt]
    augment: Augment
    adversary_eps: Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Evaluation(Strict):
    """`images`: all or the first N of the test split; `keep_images`: for how many of them the adversarial images are stored."""

    eps: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), Once]
    images: Literal["all"] | PositiveInt
    keep_images: Literal["all", "none"] | PositiveInt
    batch_size: PositiveInt


class Dataset(Strict):
    source: SourceChoice
    validation: Validation
    network: NetworkChoice
    training: TrainingData
    evaluation: Evaluation
    headline_eps: Annotated[float, Field(gt=0, le=1)]


class Optimizer(Strict):
    """SGD. `milestones`: below 1 a fraction of the epochs, from 1 on an epoch; at each the rate is multiplied by `gamma`."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    milestones: list[Positive]
    gamma: Annotated[float, Field(gt=0, le=1)]


class AdversarialTraining(Strict):
    """`clean_share` is lambda of hcp eq. 5, the weight of the clean images: 0 trains on adversarial ones only."""

    clean_share: Annotated[float, Field(ge=0, lt=1)]
    attack: AttackChoice


class Method(Strict):
    init: Literal["softmax", "random"]
    epochs: str
    layers: Annotated[list[str], Once]
    loss: LossChoice | None
    optimizer: Optimizer
    prototypes: dict[str, Optimizer]
    adversary: AdversarialTraining | None


class Noise(Strict):
    """The noise measurement of hcp table 3: MIM with no bound but the image range, until the model is wrong."""

    eps: Positive
    steps: PositiveInt
    rel_step_size: Positive
    decay: Annotated[float, Field(ge=0)]
    stop: Annotated[list[Literal["sample", "batch"]], Field(min_length=1), Once]
    batch_size: PositiveInt


class Statistics(Strict):
    alpha: Annotated[float, Field(gt=0, lt=1)]
    compare: Annotated[list[Name], Field(min_length=3), Once]


class Compute(Strict):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    threads: Annotated[int, Field(ge=0)]


class Tracking(Strict):
    enabled: bool
    uri: str


class Params(Strict):
    root: str
    run: Run
    datasets: dict[Name, Dataset]
    methods: dict[Name, Method]
    attacks: dict[Name, AttackChoice]
    noise: Noise
    statistics: Statistics
    labels: dict[Name, str]
    compute: Compute
    tracking: Tracking


def load_params(path: str | Path = "params.yaml", lookups: Mapping[str, Lookup] | None = None) -> Params:
    """Reads and checks the whole file. `lookups` (pipeline/lookups.py) holds what names stand for, by kind; stages that only read
    results do without, and leave options to the stages that use them.

    Raises ParamsError with every problem found.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}; run from the folder that holds params.yaml") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    lookups = lookups or {}
    try:
        params = Params.model_validate(raw, context=lookups)
    except ValidationError as error:
        problems = _problems(error)
        with suppress(ValidationError):  # where the file's shape is right, what disagrees in it can be told too
            problems += disagreements(Params.model_validate(raw), {})
        raise ParamsError(_message(path, problems)) from None
    if problems := disagreements(params, lookups):
        raise ParamsError(_message(path, problems))
    return params


def pick(choices: Mapping[str, Any], name: str, what: str) -> Any:
    """choices[name]. Raises ValueError that lists the choices."""
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}, choose from {', '.join(sorted(choices))}")
    return choices[name]


def _message(path: str | Path, problems: list[str]) -> str:
    return "\n  ".join([f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *problems])


def _problems(error: ValidationError) -> list[str]:
    """One line a problem: path, what is wrong, what was found there."""
    problems = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "choice":
            problems += [f"{where}.{problem}" for problem in item["ctx"]["problems"]]
        elif item["type"] in ("missing", "extra_forbidden"):
            problems.append(f"{where}: {'is missing' if item['type'] == 'missing' else 'is not a parameter here'}")
        else:
            problems.append(f"{where or 'the file'}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})")
    return problems


def _choice_problems(choice: Choice, lookup: Lookup) -> list[str]:
    """Checks options against the keyword-only parameters without default of what the name stands for; those are what params.yaml
    must say. Keyword-only parameters with a default are handed over by code."""
    if choice.name not in lookup:
        return [f"name: unknown {choice.name!r}, choose from {', '.join(sorted(lookup))}"]
    target = lookup[choice.name]
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    options = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    fields: dict[str, Any] = {option: (hints[option], ...) for option in options}
    schema = create_model(choice.name, __config__=RULES, **fields)
    try:
        schema.model_validate(choice.options)
    except ValidationError as error:
        return [f"{problem}; options of {choice.name}: {', '.join(options) or 'none'}" for problem in _problems(error)]
    return []
