"""Kinds of values that params.yaml has."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from pipeline.params.choices import RULES

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]  # becomes part of file and stage names
Label = Annotated[str, StringConstraints(pattern=r"^[^|\n]+$")]  # a | would end a cell of a table
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(gt=0, le=1)]  # eps in [0, 1] pixels
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Literal["all"] | PositiveInt


def _each_once(values: list[Any]) -> list[Any]:
    if len({f"{value:g}" if isinstance(value, float) else value for value in values}) < len(values):
        raise ValueError("names something twice")  # numbers as tables print them
    return values


Once = AfterValidator(_each_once)
Names = Annotated[list[Name], Once]
Layers = Annotated[list[str], Once]


class Strict(BaseModel):
    model_config = ConfigDict(**RULES, frozen=True)
