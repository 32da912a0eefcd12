"""docs/params.md: what params.yaml can say, written from the schema, from what params.yaml says now and from what the names in it
stand for. Meanings are the docstrings and descriptions there."""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.params.choices import Choice, Lookup, options_schema
from pipeline.params.schema import Params

HEAD = """# Every value of params.yaml

Written by `python -m stages.reference` from `pipeline/params`; a test says when it is out of date.

A path is that of a value after merging: entries of `datasets`, `methods` and `optimizers` may name another one as `base:` and say
what differs, and a profile's params.yaml may say `extends:`. `<name>` is one of your choice. "Here" is what params.yaml says; where
entries do not agree, it is left out. Lists have no duplicates, except milestones, ranges and the lists of a given model.
`python -m stages.show METHOD` prints a method with the line that each value comes from.
"""
PAGE = Path("docs/params.md")
LONGEST = 60  # characters of a value
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
Node = dict[str, Any]


class Row(NamedTuple):
    path: str
    allowed: str
    here: str
    meaning: str


def reference(params: Params, lookups: Mapping[str, Lookup]) -> str:
    """The page."""
    schema, values = Params.model_json_schema(), params.model_dump()
    pages = [HEAD]
    for key, node in schema["properties"].items():
        rows = list(_rows(node, key, [values[key]], schema["$defs"]))
        pages.append(f"## `{key}`\n\n{_table(('path', 'type', 'here', 'meaning'), rows)}")
    for kind, lookup in sorted(lookups.items()):
        choices = [_choice(kind, name, target) for name, target in sorted(lookup.items())]
        pages.append(f"## {kind.capitalize()} by name\n\n{_table(('name', 'options', 'what it is'), choices)}")
    return "\n".join(pages)


def write_reference(params: Params, lookups: Mapping[str, Lookup]) -> None:
    PAGE.write_text(reference(params, lookups), encoding="utf-8")


def _rows(node: Node, path: str, values: list[Any], defs: Mapping[str, Node]) -> Iterator[Row]:
    """A value, or a group and all that is in it. values: of all entries that have it."""
    target = _target(node, defs)
    meaning = " ".join((node.get("description") or target.get("description", "")).split())
    if "properties" in target and target["additionalProperties"] is False:
        if meaning:
            yield Row(f"`{path}`", _words(node, defs), "", meaning)
        for key, inner in target["properties"].items():
            yield from _rows(inner, f"{path}.{key}", [value[key] for value in values if value is not None], defs)
    elif entries := _entries(target):
        if meaning:
            yield Row(f"`{path}`", "entries by name", "", meaning)
        yield from _rows(entries, f"{path}.<name>", [one for value in values for one in value.values()], defs)
    else:
        yield Row(f"`{path}`", _words(node, defs), _here(values), meaning)


def _target(node: Node, defs: Mapping[str, Node]) -> Node:
    """What a node refers to, where it does, be it optional."""
    found = next((part for part in node.get("anyOf", ()) if "$ref" in part), node)
    return defs[found["$ref"].rpartition("/")[2]] if "$ref" in found else node


def _entries(node: Node) -> Node | None:
    """What each entry of a mapping is; None of what is no mapping, or one of anything."""
    patterns = list(node.get("patternProperties", {}).values())
    additional = node.get("additionalProperties")
    return patterns[0] if patterns else additional if isinstance(additional, dict) else None


def _words(node: Node, defs: Mapping[str, Node]) -> str:
    """What a value can be, in words."""
    if "anyOf" in node:
        return " or ".join(_words(part, defs) for part in node["anyOf"])
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        kinds = {choice.__name__: choice.kind for choice in Choice.__subclasses__()}
        return f"`name` and options, see [{kinds[name]}](#{kinds[name]}-by-name)" if name in kinds else "mapping, see below"
    if "const" in node or "enum" in node:
        return " or ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    limits = [f"{words} {node[limit]}" for limit, words in LIMITS.items() if limit in node]
    match node.get("type"):
        case "array":
            few, many = node.get("minItems", 0), node.get("maxItems")
            count = f"{few} " if few == many else f"{few} or more " if few else ""
            return f"list of {count}({_words(node['items'], defs)})"
        case "string":
            return str(node.get("format", "text"))
        case "null":
            return "empty"
        case "boolean":
            return "`true` or `false`"
        case "object":
            return "mapping"
        case kind:
            return " ".join([str(kind), " and ".join(limits)]).strip()


def _here(values: list[Any]) -> str:
    texts = {yaml.safe_dump([value], default_flow_style=True, width=sys.maxsize).strip()[1:-1] for value in values}
    if len(texts) != 1:
        return ""
    (text,) = texts
    if len(text) > LONGEST:
        return f"{len(values[0])} entries"
    return "empty" if text == "null" else f"`{text}`"


def _choice(kind: str, name: str, target: Any) -> tuple[str, str, str]:
    """A network, loss, attack or source with its options. What it is: the docstring of its file, the first sentence of its own."""
    schema = options_schema(kind, name, target).model_json_schema()
    options = [f"`{option}`: {_words(node, {})}" for option, node in schema["properties"].items()]
    of_file = (inspect.getdoc(sys.modules[target.__module__]) or "").split("\n\n")[0]
    own = re.split(r"\.\s", inspect.getdoc(target) or "")[0].removesuffix(".")
    return f"`{name}`", "; ".join(options) or "none", " ".join(f"{of_file} {own}.".split())


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
