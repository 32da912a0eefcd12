"""What params.yaml has on measurements besides the papers' attacks: noise, and the verdict."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.values import NotNegative, Once, Positive, PositiveInt, Strict


class Noise(Strict):
    """The noise measurement of hcp table 3: MIM with no bound but the image range, until the model is wrong."""

    eps: Positive
    steps: PositiveInt
    rel_step_size: Positive = Field(description="length of a step as a share of eps")
    decay: NotNegative = Field(description="of the momentum")
    stop: Annotated[list[Literal["sample", "batch"]], Field(min_length=1), Once] = Field(
        description="when an image is misclassified, or when all of its batch is, as in the authors' code; both are measured"
    )
    batch_size: PositiveInt


class Adaptive(Strict):
    """APGD with knowledge of the prototypes, on each of its objectives."""

    steps: PositiveInt
    restarts: PositiveInt
    targets: PositiveInt = Field(description="wrong classes to try")


class FollowUp(Strict):
    """What is tried where a check for masked gradients warns."""

    queries: Annotated[int, Field(ge=2)] = Field(
        description="of each gradient-free attack; should be above those of Square in `autoattack`"
    )
    draws: PositiveInt = Field(description="forward passes that an attack averages over if the model is stochastic (EOT)")
    steps: PositiveInt = Field(description="along a gradient")


class Verdict(Strict):
    """What every method is judged by, at the data set's headline."""

    autoattack: str = Field(description="a name of `autoattack`")
    confirm: str | None = Field(
        description="a second version, on what the first leaves of a model that keeps more than chance; empty: none"
    )
    adaptive: Adaptive
    follow_up: FollowUp
    steps: Annotated[list[PositiveInt], Field(min_length=2), Once] = Field(
        description="of PGD, to see whether more of them break more"
    )
    examples: Annotated[int, Field(ge=0)] = Field(description="adversarial images that are kept to be shown")
