"""A name and its options, where params.yaml chooses one of several implementations (source, network, loss, attack).

The options are checked against the keyword-only parameters of the function or class that the name stands for.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, create_model, model_validator
from pydantic_core import PydanticCustomError

Lookup = Mapping[str, Callable[..., Any]]
LONGEST = 200  # characters of a value that is shown with its problem
RULES = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


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

    @property
    def text(self) -> str:
        """The name with what says how large it is."""
        sizes = {"width": " of width {}", "blocks": " of {} blocks a stage"}
        return self.name + "".join(text.format(self.options[name]) for name, text in sizes.items() if name in self.options)


class LossChoice(Choice):
    kind = "losses"


class AttackChoice(Choice):
    kind = "attacks"


def problems_of(error: ValidationError) -> list[str]:
    """One line a problem: path, what is wrong, what was found there."""
    problems = []
    for item in error.errors():
        where = ".".join(part if isinstance(part, str) and part.isprintable() else repr(part) for part in item["loc"])
        if item["type"] == "choice":
            problems += [f"{where}.{problem}" for problem in item["ctx"]["problems"]]
        elif item["type"] in ("missing", "extra_forbidden"):
            problems.append(f"{where}: {'is missing' if item['type'] == 'missing' else 'is not a parameter here'}")
        else:
            found = repr(item["input"])
            found = found if len(found) <= LONGEST else f"{found[:LONGEST]}..."
            problems.append(f"{where or 'the file'}: {item['msg'].removeprefix('Value error, ')} (got {found})")
    return problems


def options_schema(kind: str, name: str, target: Callable[..., Any]) -> type[BaseModel]:
    """The options that params.yaml gives to what `name` stands for: the keyword-only parameters without default, which params.yaml
    must say. Those with a default are handed over by code, but for a source with None: params.yaml may say them."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        may_be_left_out = parameter.default is None and kind == "sources"
        if parameter.kind is parameter.KEYWORD_ONLY and (parameter.default is parameter.empty or may_be_left_out):
            fields[parameter.name] = (hints[parameter.name], None if may_be_left_out else ...)
    return create_model(name, __config__=RULES, **fields)


def _choice_problems(choice: Choice, lookup: Lookup) -> list[str]:
    if choice.name not in lookup:
        return [f"name: unknown {choice.name!r}, choose from {', '.join(sorted(lookup))}"]
    schema = options_schema(choice.kind, choice.name, lookup[choice.name])
    try:
        schema.model_validate(choice.options)
    except ValidationError as error:
        options = ", ".join(schema.model_fields) or "none"
        return [f"{problem}; options of {choice.name}: {options}" for problem in problems_of(error)]
    return []
