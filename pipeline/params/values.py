"""Kinds of values that params.yaml has."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from pipeline.params.choices import RULES

LONGEST = 100  # characters of a text that stands in tables and figures
CLOSE = 2e-6  # the reporting takes a strength for another within half of it


def _one_line(text: str) -> str:
    """Text that stands as it is in a cell of a table, in a CSV file and in a figure's legend, which omits what begins with _."""
    one_line = text.isprintable() and text == text.strip() and 0 < len(text) <= LONGEST
    if not one_line or "|" in text or text.startswith("_"):
        raise ValueError(f"must be one line of 1 to {LONGEST} visible characters, without |, a space at either end or _ in front")
    return text


def _each_once(values: list[Any]) -> list[Any]:
    numbers = sorted(value for value in values if isinstance(value, float))
    if any(f"{low:g}" == f"{high:g}" or high - low < CLOSE for low, high in pairwise(numbers)):  # as tables print them
        raise ValueError(f"has duplicates: numbers must differ by {CLOSE:g} or more, and in their first 6 digits")
    if len(set(values)) < len(values):
        raise ValueError("has duplicates")
    return values


def _shown_as(words: str) -> Any:
    """What docs/params.md calls a kind of text: JSON Schema's `format`."""
    return Field(json_schema_extra={"format": words})


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$"), _shown_as("name")]  # part of file names, commands
Folder = Annotated[str, StringConstraints(pattern=r"^[\w.+/-]+$"), _shown_as("folder")]  # becomes part of commands
Text = Annotated[str, AfterValidator(_one_line), _shown_as("one line of text")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(gt=0, le=1)]  # eps in [0, 1] pixels
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as scikit-learn and NumPy take it
Count = Literal["all"] | PositiveInt
Once = AfterValidator(_each_once)
Names = Annotated[list[Name], Once]
Layers = Annotated[list[str], Once]


class Strict(BaseModel):
    model_config = ConfigDict(**RULES, frozen=True)


class Tracking(Strict):
    """MLflow tracking; no result depends on it."""

    enabled: bool
    uri: str = Field(description="the store; empty: mlflow/mlflow.db here")
    experiment: Text
