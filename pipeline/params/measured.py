"""What params.yaml has on measurements besides the papers' attacks: noise, and the verdict."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.values import NotNegative, Once, Positive, PositiveInt, Strict


class Noise(Strict):
    """The noise measurement of hcp table 3: MIM with no bound but the image range, until the model is wrong."""

    eps: Positive
    steps: PositiveInt
    rel_step_size: Positive
    decay: NotNegative
    stop: Annotated[list[Literal["sample", "batch"]], Field(min_length=1), Once]
    batch_size: PositiveInt


class Adaptive(Strict):
    """APGD with knowledge of the prototypes, on each of its objectives; `targets`: wrong classes to try."""

    steps: PositiveInt
    restarts: PositiveInt
    targets: PositiveInt


class FollowUp(Strict):
    """What is tried where a check for masked gradients warns: `queries` of each attack without gradients, more than AutoAttack's
    Square has; `draws` that an attack averages over where a model answers by chance; `steps` along a gradient."""

    queries: Annotated[int, Field(ge=2)]
    draws: PositiveInt
    steps: PositiveInt


class Verdict(Strict):
    """`confirm`: a second version of AutoAttack, on what the first leaves of a model that keeps more than chance; `steps`: of PGD,
    to see whether more of them break more; `examples`: how many adversarial images are kept to be shown."""

    autoattack: str
    confirm: str | None
    adaptive: Adaptive
    follow_up: FollowUp
    steps: Annotated[list[PositiveInt], Field(min_length=2), Once]
    examples: Annotated[int, Field(ge=0)]
