"""params.yaml, merged, as typed and checked values. The only place that knows the file's shape, with dataset.py
and measured.py. A docstring and the description of a field are what docs/params.md says of them (reference.py).

A new loss, attack, network or source brings its own schema with its signature (choices.py), and this file does not change.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from pipeline.params.agreement import disagreements
from pipeline.params.choices import AttackChoice, Lookup, LossChoice, problems_of
from pipeline.params.dataset import Dataset, Images, Optimizer
from pipeline.params.measured import Noise, Verdict
from pipeline.params.merge import ParamsError, Tree, merged, plain
from pipeline.params.values import (
    Folder,
    Layers,
    Name,
    Names,
    NotNegative,
    Once,
    Positive,
    PositiveInt,
    Seed,
    Strict,
    Text,
    Tracking,
)


class Run(Strict):
    """What is run: the matrix of dvc.yaml."""

    datasets: Annotated[list[Name], Field(min_length=1), Once]
    methods: Annotated[list[Name], Field(min_length=1), Once] = Field(description="trained, attacked and reported")
    seeds: Annotated[list[Seed], Field(min_length=1), Once]
    attacks: Annotated[list[Name], Field(min_length=1), Once] = Field(description="on every method; names of `attacks`")


Labels = Literal["true", "predicted", "soft"]


class Attacked(Strict):
    clean_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="lambda of hcp eq. 5, the weight of the clean images: 0 trains on adversarial ones only"
    )
    labels: Annotated[Labels, BeforeValidator(lambda given: "true" if given is True else given)] = Field(
        description="what the attack moves away from; soft: the distribution predicted for the clean image"
    )
    attack: AttackChoice


class AdversarialTraining(Attacked):
    """Training on adversarial images; left empty, there is none."""

    eps: str = Field(description="a name in the data set's `training.adversary_eps`")


class WeightPerturbation(Strict):
    """Adversarial weight perturbation (AWP); left empty, there is none."""

    gamma: Positive = Field(description="length of the perturbation as a share of the weight's")
    warmup: NotNegative = Field(description="when it begins, as a milestone")


class GivenModel(Strict):
    """A model from elsewhere, as `python -m stages.evaluate` takes it. Its files are in data/given, which the stages look at for
    changes."""

    model: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = Field(None, description="a file; {dataset} and {seed} stand for those of the run")
    mean: list[float] | None = None
    std: list[float] | None = None
    features: list[str] = Field(default_factory=list)

    def weights_file(self, dataset: str, seed: int) -> str | None:
        return self.weights and self.weights.replace("{dataset}", dataset).replace("{seed}", str(seed))


class Objective(Strict):
    """How one model is trained; of a model from elsewhere only `given` counts."""

    ensemble: PositiveInt = Field(description="how many networks, whose probabilities are averaged")
    init: Literal["softmax", "random"] = Field(description="the model of stage pretrain, or random weights")
    cross_entropy: NotNegative = Field(description="its weight")
    layers: Layers = Field(description="where the loss is: layer1 to layer5, logits, or members (of an ensemble)")
    loss: LossChoice | None
    auxiliary: Layers = Field(description="layers with a classifier and cross entropy of their own (pcl eq. 9)")
    input_gradient: NotNegative = Field(description="weight of the squared gradient of the cross entropy at the pixels")
    trades: NotNegative = Field(description="weight of the divergence of the predictions for clean and attacked images")
    awp: WeightPerturbation | None
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="decay of a moving average of the weights, which then is the model; 0: none"
    )
    keep: Literal["last", "best"] = Field(
        description="best: the epoch with the best accuracy on the validation split, under `adversary.attack` where there is one"
    )
    given: GivenModel | None = None


class Method(Objective):
    """A row of the tables. What is minimised: cross_entropy x CE + `loss` on each of `layers` + CE of a linear classifier on each
    of `auxiliary` + input_gradient x |d CE / d x|^2 + trades x KL(p(clean) || p(attacked))."""

    label: Text = Field(description="its name in tables; left out, the method's own")
    papers: Annotated[list[Literal["hcp", "pcl"]], Once] = Field(description="in whose tables it has a row")
    published: str | None = Field(
        description="the papers' method that it is measured beside, a `key` of published.csv; left out, the one of its own name"
    )
    measure: Annotated[list[Literal["noise", "cw", "sweep", "adaptive", "l2"]], Once] = Field(
        description="besides `run.attacks`; adaptive: the papers' attacks on cross entropy and loss; l2: AutoAttack in l2"
    )
    network: str = Field(description="a name in the data set's `networks`")
    epochs: str = Field(description="a name in the data set's `training.epochs`")
    optimizer: str = Field(description="a name in the data set's `training.optimizers`")
    prototypes: dict[str, Optimizer | None] = Field(
        description="the optimizer of each kind of prototypes that the loss has; left empty: not that kind, which the base has"
    )
    adversary: AdversarialTraining | None


class Transfer(Strict):
    """The models that adversarial images are made on, to be evaluated on all."""

    sources: Names = Field(description="methods that are trained for this alone")
    methods: Names = Field(description="methods of the run")


class Planes(Strict):
    """Methods trained once more with a layer of two features, by the data set's optimizer `planes`."""

    methods: Names
    epochs: Annotated[list[PositiveInt], Once] = Field(description="epochs that are plotted, besides the last")


class Cost(Strict):
    """Seconds per epoch, pcl table 12."""

    methods: Names
    repeats: PositiveInt


class Statistics(Strict):
    """Friedman's test and Nemenyi's critical difference, hcp section 5.3."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(description="level of significance")
    compare: Annotated[list[str], Field(min_length=3), Once] = Field(description="methods")


class Compute(Strict):
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU where there is one")
    precision: Literal["fp32", "bf16"] = Field(description="of training")
    attack_precision: Literal["fp32", "bf16"] = Field(description="of attacks; what they have broken is checked in fp32")
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        description="on the CPU; 0: as many as there are cores"
    )  # a million crash PyTorch


class Params(Strict):
    root: Folder = Field(description="the folder of pipeline/ and stages/, seen from this file")
    run: Run
    images: Images
    datasets: dict[Name, Dataset]
    methods: dict[Name, Method]
    attacks: dict[Name, AttackChoice] = Field(description="by the names that `run.attacks` has")
    autoattack: dict[Name, Annotated[dict[Name, AttackChoice], Field(min_length=1)]] = Field(
        description="versions of AutoAttack, each with its parts; a part attacks the images still classified correctly"
    )
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
