"""What params.yaml has on data sets: where images come from, how a network is trained on them, how strong attacks are."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.choices import NetworkChoice, SourceChoice
from pipeline.params.values import Count, Fraction, Name, NotNegative, Once, Positive, PositiveInt, Seed, Strength, Strict


class Images(Strict):
    """Where sets with source public_set come from."""

    form: Literal["torchvision", "parquet"] = Field(description="downloaded by torchvision, or files as on the Hugging Face hub")
    folder: str


class Sample(Strict):
    """How many images are taken, at random and stratified."""

    train: Count
    test: Count
    seed: Seed


class Validation(Strict):
    """What is split off the training images, stratified."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Augment(Strict):
    """How training images are varied at random."""

    pad: Annotated[int, Field(ge=0)] = Field(description="pixels by which an image is shifted at most, in each direction")
    flip: bool = Field(description="left to right, half of the images")


class Optimizer(Strict):
    """SGD."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NotNegative
    milestones: list[Positive] = Field(description="below 1 a fraction of the epochs, from 1 on an epoch")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(description="the rate is multiplied by it at each milestone")
    clip: Positive | None = Field(None, description="largest norm of the gradient, where training diverges without; empty: none")


class TrainingData(Strict):
    """Training settings of a data set and its network, the same for all methods."""

    batch_size: Annotated[int, Field(ge=2)]  # batch norm learns nothing from one image
    augment: Augment
    epochs: dict[str, PositiveInt] = Field(description="numbers of epochs; a method names one of them")
    adversary_eps: dict[str, Annotated[list[Fraction], Field(min_length=2, max_length=2)]] = Field(
        description="ranges [low, high]; a method names one of them; one eps is drawn per batch"
    )
    optimizers: dict[str, Optimizer]


class Linf(Strict):
    """Of the l-inf attacks."""

    eps: Annotated[list[Strength], Field(min_length=1), Once]
    sweep: Annotated[list[Strength], Once] = Field(
        description="further eps where `measure` has sweep: pcl figure 7, curves.csv, the check larger eps"
    )


class L2(Strict):
    """Of the C&W attack."""

    c: Annotated[list[Positive], Field(min_length=1), Once] = Field(description="constants of the attack")
    images: PositiveInt = Field(description="the first N of the test split")


class Table(Strict):
    """Strengths of adaptive attacks, of transfer, and of tables with one strength where the paper does not have the data set."""

    eps: Strength
    c: Positive


class Headline(Strict):
    """Of the verdict."""

    eps: Strength
    l2: Positive = Field(description="eps of the l2 attacks")
    images: Count


class Evaluation(Strict):
    linf: Linf
    l2: L2
    table: Table
    headline: Headline
    images: Count = Field(description="all or the first N of the test split, whose order is random and stratified")
    keep_images: Literal["none"] | Count = Field(description="adversarial images that are stored")
    batch_size: PositiveInt = Field(description="images that go through the network at a time")


class Dataset(Strict):
    source: SourceChoice
    sample: Sample
    validation: Validation
    networks: dict[Name, NetworkChoice]
    training: TrainingData
    evaluation: Evaluation
