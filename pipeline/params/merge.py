"""params.yaml as it is meant: what it extends, and in methods and data sets what each builds on, merged into plain values.

Mappings are merged key by key; lists and single values are replaced. A mapping with another `name` (another loss, network, attack,
source) takes the place of the whole one before it, whose options are not its own.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

OWN = ("base", "label", "published")  # of a method itself, not of those that build on it
GROUPS = ("methods", "datasets")  # whose entries may have a `base`; so may those of a data set's training.optimizers


class ParamsError(ValueError):
    """params.yaml is not usable. The message lists every problem with its path and what is allowed."""


class Leaf(NamedTuple):
    """A value (a list is one) and where it is written."""

    value: Any
    file: str
    line: int


Tree = dict[str, Any]  # nested; what is no Tree is a Leaf


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the first needs libyaml
    """With numbers as DVC writes them (1e-05, which YAML 1.1 takes for text), and fractions such as 8/255."""


def _fraction(loader: Loader, node: yaml.ScalarNode) -> float:
    over, under = node.value.split("/")
    return float(over) / float(under)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
Loader.add_implicit_resolver("!fraction", re.compile(r"\d+(\.\d+)?/[1-9]\d*$"), list("0123456789"))
Loader.add_constructor("!fraction", _fraction)


def merged(path: str | Path = "params.yaml") -> Tree:
    """The file with what it extends and with every `base` followed. Raises ParamsError for a file that cannot be read or parsed,
    and for a base that is unknown or goes round in a circle."""
    tree = _read(Path(path))
    if isinstance(extends := tree.pop("extends", None), Leaf):
        base = _read(Path(path).parent / str(extends.value))
        if "extends" in base:
            raise ParamsError(f"{extends.file}, line {extends.line}: {extends.value} extends another file; one step is allowed")
        tree = merge(base, tree)
    for group in GROUPS:
        _follow_bases(tree, group, group)
    datasets = tree.get("datasets")
    for name, dataset in datasets.items() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict) and isinstance(training := dataset.get("training"), dict):
            dataset["training"] = training = dict(training)  # one with a base may share its own
            _follow_bases(training, "optimizers", f"datasets.{name}.training.optimizers")
    return tree


def merge(base: Tree, own: Tree) -> Tree:
    """`own` over `base`, as the head of this file says."""
    if "name" in base and "name" in own and plain(base["name"]) != plain(own["name"]):
        return own
    result = dict(base)
    for key, value in own.items():
        before = result.get(key)
        result[key] = merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def plain(tree: Any) -> Any:
    """The values alone."""
    if isinstance(tree, Leaf):
        return tree.value
    return {key: plain(value) for key, value in tree.items()}


def explain(tree: Tree, depth: int = 0) -> list[str]:
    """Lines of YAML, each with the place that its value comes from."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            lines += [f"{'  ' * depth}{key}:", *explain(value, depth + 1)]
        else:
            text = yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
            where = f"   # {value.file}:{value.line}" if isinstance(value, Leaf) else ""
            lines.append(f"{'  ' * depth}{key}: {text}{where}")
    return lines


def pick(choices: Mapping[str, Any], name: str, what: str) -> Any:
    """choices[name]. Raises ValueError that lists the choices."""
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}, choose from {', '.join(sorted(choices))}")
    return choices[name]


def read_tracking(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The block `tracking`, on which no result hangs: stages read it here and all else from their item's file."""
    tracking: dict[str, Any] = plain(merged(path)["tracking"])
    return tracking


def _follow_bases(tree: Tree, key: str, path: str) -> None:
    entries = tree.get(key)
    if isinstance(entries, dict):
        tree[key] = {name: _with_base(entries, name, path, ()) for name in entries}


def _with_base(entries: Tree, name: str, group: str, way: tuple[str, ...]) -> Any:
    entry = entries[name]
    if not isinstance(entry, dict) or "base" not in entry:
        return entry
    base, way = entry["base"].value, (*way, name)
    if base not in entries:
        raise ParamsError(f"{group}.{name}.base: unknown {base!r}, choose from {', '.join(sorted(set(entries) - {name}))}")
    if base in way:
        raise ParamsError(f"{group}.{name}.base: goes round in a circle, {' -> '.join([*way, base])}")
    inherited = {key: value for key, value in _with_base(entries, base, group, way).items() if key not in OWN}
    return merge(inherited, {key: value for key, value in entry.items() if key != "base"})


def _read(path: Path) -> Tree:
    try:
        with path.open(encoding="utf-8") as file:
            loader = Loader(file.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ParamsError(f"{path} cannot be read: {reason}; run from the folder that holds params.yaml") from None
    try:
        node = loader.get_single_node()
        tree = _tree(loader, node, os.path.relpath(path), set())
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(tree, dict):
        raise ParamsError(f"{path} must hold a mapping, such as `run: ...`")
    return tree


def _tree(loader: Loader, node: Any, file: str, seen: set[int]) -> Any:
    if node is None:
        return None
    line = node.start_mark.line + 1
    if id(node) in seen:
        raise ParamsError(
            f"{file}, line {line}: anchors (&, *, <<) are not allowed, since `dvc exp run -S` cannot follow them; use base:"
        )
    seen.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        return Leaf(loader.construct_object(node, deep=True), file, line)
    tree: Tree = {}
    for key_node, value in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in tree:
            raise ParamsError(f"{file}, line {key_node.start_mark.line + 1}: {key} is there twice")
        tree[key] = _tree(loader, value, file, seen)
    return tree
