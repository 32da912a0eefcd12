"""params.yaml, merged, as typed and checked values. The only place that knows the file's shape.

A new loss, attack, network or source brings its own schema with its signature (choices.py), and this file does not change.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline.params.agreement import disagreements
from pipeline.params.choices import AttackChoice, Lookup, LossChoice, NetworkChoice, SourceChoice, problems_of
from pipeline.params.measured import Noise, Verdict
from pipeline.params.merge import ParamsError, Tree, merged, plain
from pipeline.params.values import (
    Count,
    Folder,
    Fraction,
    Layers,
    Name,
    Names,
    NotNegative,
    Once,
    Positive,
    PositiveInt,
    Seed,
    Strength,
    Strict,
    Text,
    Tracking,
)


class Run(Strict):
    datasets: Annotated[list[Name], Field(min_length=1), Once]
    methods: Annotated[list[Name], Field(min_length=1), Once]
    seeds: Annotated[list[Seed], Field(min_length=1), Once]
    attacks: Annotated[list[Name], Field(min_length=1), Once]


class Images(Strict):
    """Where sets with source public_set come from: downloaded by torchvision into `folder`, or parquet files below it."""

    form: Literal["torchvision", "parquet"]
    folder: str


class Sample(Strict):
    train: Count
    test: Count
    seed: Seed


class Validation(Strict):
    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Augment(Strict):
    pad: Annotated[int, Field(ge=0)]
    flip: bool


class Optimizer(Strict):
    """SGD. `milestones`: below 1 a fraction of the epochs, from 1 on an epoch; at each the rate is multiplied by `gamma`. `clip`:
    largest norm of the gradient, for networks without batch norm under squared distances."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NotNegative
    milestones: list[Positive]
    gamma: Annotated[float, Field(gt=0, le=1)]
    clip: Positive | None = None


class TrainingData(Strict):
    """How a data set and its network are trained on, whatever the method. Methods name one of `epochs` (lengths), of
    `adversary_eps` (ranges [low, high]; one eps is drawn a batch) and of `optimizers`."""

    batch_size: Annotated[int, Field(ge=2)]  # batch norm learns nothing from one image
    augment: Augment
    epochs: dict[str, PositiveInt]
    adversary_eps: dict[str, Annotated[list[Fraction], Field(min_length=2, max_length=2)]]
    optimizers: dict[str, Optimizer]


class Linf(Strict):
    """`eps` of the l-inf attacks; `sweep`: those besides them in pcl figure 7."""

    eps: Annotated[list[Strength], Field(min_length=1), Once]
    sweep: Annotated[list[Strength], Once]


class L2(Strict):
    """Constants `c` of the C&W attack, which takes the first `images`."""

    c: Annotated[list[Positive], Field(min_length=1), Once]
    images: PositiveInt


class Table(Strict):
    """Strengths of adaptive attacks, of transfer, and of tables with one strength where the paper does not have the data set."""

    eps: Strength
    c: Positive


class Headline(Strict):
    eps: Strength
    l2: Positive
    images: Count


class Evaluation(Strict):
    """`images`: all or the first N of the test split, whose order is random and stratified."""

    linf: Linf
    l2: L2
    table: Table
    headline: Headline
    images: Count
    keep_images: Literal["none"] | Count
    batch_size: PositiveInt


class Dataset(Strict):
    source: SourceChoice
    sample: Sample
    validation: Validation
    networks: dict[Name, NetworkChoice]
    training: TrainingData
    evaluation: Evaluation


class Attacked(Strict):
    """`clean_share` is lambda of hcp eq. 5, the weight of the clean images: 0 trains on adversarial ones only. `labels`: what the
    attack moves away from; `soft` is the distribution predicted for the clean image."""

    clean_share: Annotated[float, Field(ge=0, lt=1)]
    labels: Literal["true", "predicted", "soft"]
    attack: AttackChoice


class AdversarialTraining(Attacked):
    """`eps` names a range of the data set."""

    eps: str


class WeightPerturbation(Strict):
    """AWP: `gamma` is the length of the perturbation as a share of the weight's; `warmup`: when it begins, as a milestone."""

    gamma: Positive
    warmup: NotNegative


class GivenModel(Strict):
    """A model from elsewhere, as `python -m stages.evaluate` takes it. Its files are in data/given, which the stages look at for
    changes; in `weights`, {dataset} and {seed} stand for those of the run."""

    model: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    features: list[str] = Field(default_factory=list)

    def weights_file(self, dataset: str, seed: int) -> str | None:
        return self.weights and self.weights.replace("{dataset}", dataset).replace("{seed}", str(seed))


class Objective(Strict):
    """What is minimised: cross_entropy x CE + `loss` on each of `layers` + CE of a linear classifier on each of `auxiliary` +
    input_gradient x |d CE / d x|^2 + trades x KL(p(clean) || p(attacked)). Nothing is where the model is `given`."""

    ensemble: PositiveInt
    init: Literal["softmax", "random"]
    cross_entropy: NotNegative
    layers: Layers
    loss: LossChoice | None
    auxiliary: Layers
    input_gradient: NotNegative
    trades: NotNegative
    awp: WeightPerturbation | None
    ema: Annotated[float, Field(ge=0, lt=1)]
    keep: Literal["last", "best"]
    given: GivenModel | None = None


class Method(Objective):
    """A row of the tables. `published`: the method of the papers that it is measured beside, by the `key` of published.csv; left
    out, the one of its own name."""

    label: Text
    papers: Annotated[list[Literal["hcp", "pcl"]], Once]
    published: str | None
    measure: Annotated[list[Literal["noise", "cw", "sweep", "adaptive", "l2"]], Once]
    network: str
    epochs: str
    optimizer: str
    prototypes: dict[str, Optimizer | None]  # null: not that one, which the base has
    adversary: AdversarialTraining | None


class Transfer(Strict):
    """Whose adversarial images are shown to all: `sources` are trained for it, `methods` are of the run."""

    sources: Names
    methods: Names


class Planes(Strict):
    """Methods trained once more with a layer of two features, by the data set's optimizer `planes`; epochs to be drawn."""

    methods: Names
    epochs: Annotated[list[PositiveInt], Once]


class Cost(Strict):
    methods: Names
    repeats: PositiveInt


class Statistics(Strict):
    alpha: Annotated[float, Field(gt=0, lt=1)]
    compare: Annotated[list[str], Field(min_length=3), Once]


class Compute(Strict):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    attack_precision: Literal["fp32", "bf16"]
    threads: Annotated[int, Field(ge=0, le=1024)]  # a million crash PyTorch


class Params(Strict):
    root: Folder
    run: Run
    images: Images
    datasets: dict[Name, Dataset]
    methods: dict[Name, Method]
    attacks: dict[Name, AttackChoice]
    autoattack: dict[Name, Annotated[dict[Name, AttackChoice], Field(min_length=1)]]
    verdict: Verdict
    noise: Noise
    transfer: Transfer
    planes: Planes
    cost: Cost
    statistics: Statistics
    compute: Compute
    tracking: Tracking


def load_params(path: str | Path = "params.yaml", lookups: Mapping[str, Lookup] | None = None) -> Params:
    """Reads, merges and checks the whole file. `lookups` (pipeline/params/lookups.py) holds what names stand for, by kind; without
    them options are not checked. Raises ParamsError with every problem found."""
    lookups = lookups or {}
    raw = _with_names(plain(merged(path)))
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


def _with_names(raw: Tree) -> Tree:
    """A method without label or published one is called as it is named."""
    methods = raw.get("methods")
    for name, method in methods.items() if isinstance(methods, dict) else ():
        if isinstance(method, dict):
            method.setdefault("label", name)
            method.setdefault("published", name)
    return raw


def _message(path: str | Path, problems: list[str]) -> str:
    return "\n  ".join([f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *problems])
