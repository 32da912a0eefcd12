"""Methods of a run that differ in one entry of their recipes, so that a difference of their figures is due to that entry or to
chance. Epochs may differ besides: a method that sees every image twice has fewer."""

from itertools import combinations
from typing import Any, NamedTuple

from pipeline.params.resolve import recipe
from pipeline.params.schema import Params


class Change(NamedTuple):
    """Two methods of a run whose recipes differ in one entry, and in epochs perhaps; text: from what, to what."""

    method: str
    other: str
    text: str


def single_changes(params: Params) -> dict[str, list[Change]]:
    """By data set: of each method the first one before it in run.methods whose recipe differs from its own in one entry, and in
    epochs perhaps."""
    trained = [method for method in params.run.methods if params.methods[method].given is None]
    found: dict[str, list[Change]] = {}
    for dataset in params.run.datasets:
        recipes = {method: recipe(params, dataset, method).model_dump() for method in trained}
        changes: dict[str, Change] = {}
        for other, method in combinations(trained, 2):
            before, after = recipes[other], recipes[method]
            differing = [name for name in after if before[name] != after[name]]
            if method not in changes and differing and len({*differing} - {"epochs"}) <= 1:
                texts = [text for name in differing for text in _differences(name, before[name], after[name])]
                changes[method] = Change(method, other, ", ".join(texts))
        found[dataset] = [changes[method] for method in trained if method in changes]
    return found


def _differences(name: str, before: Any, after: Any) -> list[str]:
    if not isinstance(before, dict) or not isinstance(after, dict) or before.get("name") != after.get("name"):
        return [f"{name} {_short(before)} → {_short(after)}"]
    keys = [key for key in after if before.get(key) != after[key]]
    return [text for key in keys for text in _differences(f"{name}.{key}", before.get(key), after[key])]


def _short(value: Any) -> str:
    """Of a loss or an attack the name."""
    if isinstance(value, dict):
        return str(value["name"]) if "name" in value else ", ".join(f"{key} {_short(own)}" for key, own in value.items())
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_short, value))})"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
