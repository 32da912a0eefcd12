"""params.yaml as typed, validated models. The only place that knows the file's shape.

A new loss, attack, network or source brings its own schema with its signature (choices.py), and this file does not change.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from pipeline.params.agreement import disagreements
from pipeline.params.choices import RULES, AttackChoice, Lookup, LossChoice, NetworkChoice, SourceChoice, problems_of

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]  # becomes part of file and stage names
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(gt=0, le=1)]  # eps in [0, 1] pixels
PositiveInt = Annotated[int, Field(ge=1)]


class ParamsError(ValueError):
    """params.yaml is not usable. The message lists every problem with its path and what is allowed."""


def _each_once(values: list[Any]) -> list[Any]:
    if len({f"{value:g}" if isinstance(value, float) else value for value in values}) < len(values):
        raise ValueError("names something twice")  # numbers as tables print them
    return values


Once = AfterValidator(_each_once)


class Strict(BaseModel):
    model_config = ConfigDict(**RULES, frozen=True)


class Run(Strict):
    """What `dvc repro` works through: the matrices of dvc.yaml. `finetune` and `scratch` are what is trained, `methods` what of it
    is attacked (DVC cannot join lists); the softmax model that others start from may be among them. `hcp` and `pcl` are the rows of
    the two papers' tables."""

    datasets: Annotated[list[Name], Field(min_length=1), Once]
    methods: Annotated[list[Name], Field(min_length=1), Once]
    hcp: Annotated[list[Name], Once]
    pcl: Annotated[list[Name], Once]
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
    """How a data set is trained on, whatever the method. `epochs` holds lengths and `adversary_eps` ranges [low, high] of eps, one
    drawn a batch; methods refer to both by name."""

    batch_size: PositiveInt
    epochs: dict[str, PositiveInt]
    augment: Augment
    adversary_eps: dict[str, Annotated[list[Fraction], Field(min_length=2, max_length=2)]]


class Evaluation(Strict):
    """`eps`: of the l-inf attacks, in the tables; `sweep`: those besides them in figure 7; `c`: constants of the C&W attack, which
    takes the first `cw_images` images; `images`: all or the first N of the test split; `keep_images`: for how many of them the
    adversarial images are stored."""

    eps: Annotated[list[Strength], Field(min_length=1), Once]
    sweep: Annotated[list[Strength], Once]
    c: Annotated[list[Positive], Field(min_length=1), Once]
    cw_images: PositiveInt
    images: Literal["all"] | PositiveInt
    keep_images: Literal["all", "none"] | PositiveInt
    batch_size: PositiveInt


class Dataset(Strict):
    source: SourceChoice
    validation: Validation
    networks: dict[Name, NetworkChoice]
    training: TrainingData
    evaluation: Evaluation
    headline_eps: Strength
    headline_c: Positive
    headline_l2: Positive


class Optimizer(Strict):
    """SGD. `milestones`: below 1 a fraction of the epochs, from 1 on an epoch; at each the rate is multiplied by `gamma`. `clip`:
    largest norm of the gradient, for networks without batch norm under squared distances; left out, it is as it comes."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    milestones: list[Positive]
    gamma: Annotated[float, Field(gt=0, le=1)]
    clip: Positive | None = None


class AdversarialTraining(Strict):
    """`clean_share` is lambda of hcp eq. 5, the weight of the clean images: 0 trains on adversarial ones only. `eps` names a range
    of the data set; `labels`: what the attack leads away from, `soft` being all that is predicted for the clean image."""

    clean_share: Annotated[float, Field(ge=0, lt=1)]
    eps: str
    labels: Literal["true", "predicted", "soft"]
    attack: AttackChoice


class WeightPerturbation(Strict):
    """AWP: `gamma` is the length of the perturbation as a share of that of the weight; `warmup`: when it begins, as a milestone."""

    gamma: Positive
    warmup: NotNegative


class Method(Strict):
    """`network` names one of the data set's, `ensemble` is how many of it are trained together. The loss is cross_entropy x CE
    + `loss` on each of `layers` + CE of a linear classifier on each of `auxiliary` + input_gradient x |d CE / d x|^2
    + trades x KL(p(clean) || p(attacked)), with which CE is on the clean images alone. `ema` is the decay of the moving average of
    the weights, 0 for none; `keep`: the last epoch or the best on the validation split."""

    network: str
    ensemble: PositiveInt
    init: Literal["softmax", "random"]
    epochs: str
    cross_entropy: NotNegative
    layers: Annotated[list[str], Once]
    loss: LossChoice | None
    auxiliary: Annotated[list[str], Once]
    input_gradient: NotNegative
    trades: NotNegative
    optimizer: Optimizer
    prototypes: dict[str, Optimizer]
    adversary: AdversarialTraining | None
    awp: WeightPerturbation | None
    ema: Annotated[float, Field(ge=0, lt=1)]
    keep: Literal["last", "best"]


class Noise(Strict):
    """The noise measurement of hcp table 3: MIM with no bound but the image range, until the model is wrong."""

    eps: Positive
    steps: PositiveInt
    rel_step_size: Positive
    decay: Annotated[float, Field(ge=0)]
    stop: Annotated[list[Literal["sample", "batch"]], Field(min_length=1), Once]
    batch_size: PositiveInt


class Adaptive(Strict):
    """APGD of one who knows the defence, on each of its objectives; `targets`: wrong classes that the targeted one goes for."""

    steps: PositiveInt
    restarts: PositiveInt
    targets: PositiveInt


class Verdict(Strict):
    """`autoattack`: which version of it, a name under `autoattack`; `steps`: of PGD, to see whether more of them break more;
    `examples`: how many adversarial images are kept to be shown."""

    autoattack: str
    adaptive: Adaptive
    steps: Annotated[list[PositiveInt], Field(min_length=2), Once]
    examples: Annotated[int, Field(ge=0)]


class Transfer(Strict):
    """Models whose adversarial images are shown to every other (pcl tables 3 and 13)."""

    sources: Annotated[list[Name], Once]


class Planes(Strict):
    """Methods trained once more with a layer of two features, and the epochs after which those are kept (pcl figures 1 and 6)."""

    methods: Annotated[list[Name], Field(min_length=1), Once]
    epochs: Annotated[list[PositiveInt], Once]


class Cost(Strict):
    """Methods of which `repeats` epochs each are timed, in turn, and compared with the first, softmax_fs (pcl table 12)."""

    methods: Annotated[list[Name], Field(min_length=1), Once]
    repeats: PositiveInt


class Statistics(Strict):
    alpha: Annotated[float, Field(gt=0, lt=1)]
    compare: Annotated[list[Name], Field(min_length=3), Once]


class Compute(Strict):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    attack_precision: Literal["fp32", "bf16"]
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
    measure: dict[Name, Annotated[list[Literal["noise", "cw", "sweep", "adaptive", "l2"]], Once]]
    noise: Noise
    autoattack: dict[Name, Annotated[dict[Name, AttackChoice], Field(min_length=1)]]
    verdict: Verdict
    transfer: Transfer
    planes: Planes
    cost: Cost
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
        raw = yaml.load(Path(path).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the first needs libyaml
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}; run from the folder that holds params.yaml") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    lookups = lookups or {}
    try:
        params = Params.model_validate(raw, context=lookups)
    except ValidationError as error:
        problems = problems_of(error)
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
