"""params.yaml as it is meant: what it extends, and in methods and data sets what each builds on, merged into plain values.

Mappings are merged key by key; lists and single values are replaced. A mapping with another `name` (another loss, network, attack,
source) takes the place of the whole one before it, whose options are not its own.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from pipeline.params.choices import problems_of
from pipeline.params.loader import Loader
from pipeline.params.values import Strict, Tracking

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
KINDS = ("!fraction", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")))
LARGEST = 2**53  # of whole numbers: a float holds them all


def merged(path: str | Path = "params.yaml") -> Tree:
    """The file with what it extends and with every `base` followed. Raises ParamsError for a file that cannot be read or parsed,
    and for a base that is unknown or goes round in a circle."""
    tree = _read(Path(path))
    if "extends" in tree:
        name = plain(tree.pop("extends"))
        if not isinstance(name, str) or not name.isprintable():
            raise ParamsError(f"{path}: extends: must be the name of a file, got {name!r}")
        base = _read(Path(path).parent / name)
        if "extends" in base:
            raise ParamsError(f"{path}: extends: {name} extends another file; one step is allowed")
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


def behind_names(method: Tree, dataset: Tree) -> Tree:
    """What the names in a method stand for in a data set: its network, epochs and optimizer, the eps of its adversary."""
    training = dataset["training"]
    groups = {"networks": dataset["networks"], **{name: training[name] for name in ("epochs", "optimizers", "adversary_eps")}}
    named = {"networks": method.get("network"), "epochs": method.get("epochs"), "optimizers": method.get("optimizer")}
    if isinstance(adversary := method.get("adversary"), dict):
        named["adversary_eps"] = adversary["eps"]
    found = {
        group: {plain(name): groups[group].get(plain(name), Leaf("not in this data set", *name[1:]))}
        for group, name in named.items()
        if name is not None
    }
    return {"networks": found.pop("networks", {}), "training": {"batch_size": training["batch_size"], **found}}


def explain(tree: Tree, depth: int = 0) -> list[str]:
    """Lines of YAML, each with the place that its value comes from."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            lines += [f"{'  ' * depth}{key}:", *explain(value, depth + 1)]
        else:
            text = (
                yaml.safe_dump(plain(value), default_flow_style=True, allow_unicode=True, width=1000)
                .removesuffix("\n")
                .removesuffix("\n...")
            )
            where = f"   # {value.file}:{value.line}" if isinstance(value, Leaf) else ""
            lines.append(f"{'  ' * depth}{key}: {text}{where}")
    return lines


class _TrackingBlock(Strict):
    tracking: Tracking


def read_tracking(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The block `tracking`: stages read it here and all else from their item's file."""
    block = {key: value for key, value in plain(merged(path)).items() if key == "tracking"}
    try:
        return _TrackingBlock.model_validate(block).tracking.model_dump()
    except ValidationError as error:
        raise ParamsError("\n  ".join([f"{path}:", *problems_of(error)])) from None


def tracking_or_none(path: str | Path = "params.yaml") -> dict[str, Any]:
    """`read_tracking` for a stage, which a params.yaml that is being edited does not stop."""
    try:
        return read_tracking(path)
    except ParamsError as error:
        print(f"MLflow tracking off: {error}; `python -m stages.sync` records this run later", file=sys.stderr)
        return {"enabled": False, "uri": "", "experiment": ""}


def _follow_bases(tree: Tree, key: str, path: str) -> None:
    entries = tree.get(key)
    if isinstance(entries, dict):
        tree[key] = {name: _with_base(entries, name, path, ()) for name in entries}


def _with_base(entries: Tree, name: str, group: str, way: tuple[str, ...]) -> Any:
    entry = entries[name]
    if not isinstance(entry, dict) or "base" not in entry:
        return entry
    base, way = plain(entry["base"]), (*way, name)
    known = [other for other, content in entries.items() if isinstance(content, dict)]
    if base not in known:
        raise ParamsError(f"{group}.{name}.base: unknown {base!r}, choose from {', '.join(sorted({*known} - {name}))}")
    if base in way:
        raise ParamsError(f"{group}.{name}.base: circular, {' -> '.join([*way, base])}")
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
        tree = _tree(loader, loader.get_single_node(), os.path.relpath(path), set())
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    except RecursionError:
        raise ParamsError(f"{path} is not usable: its brackets are nested too deeply") from None
    finally:
        loader.dispose()
    if not isinstance(tree, dict):
        raise ParamsError(f"{path} must hold a mapping, such as `run: ...`")
    return tree


def _tree(loader: Loader, node: Any, file: str, seen: set[int]) -> Any:
    if node is None:
        return None
    line = node.start_mark.line + 1
    where = f"{file}, line {line}"
    if id(node) in seen:
        raise ParamsError(f"{where}: anchors (&, *, <<) are not allowed, since `dvc exp run -S` cannot follow them; use base:")
    seen.add(id(node))
    if node.tag not in KINDS:
        raise ParamsError(f"{where}: values of the kind {node.tag.rpartition(':')[2]} are not used here; put text into quotes")
    if isinstance(node, yaml.SequenceNode):
        return Leaf([plain(_tree(loader, part, file, seen)) for part in node.value], file, line)
    if isinstance(node, yaml.ScalarNode):
        return Leaf(_scalar(loader, node, where), file, line)
    tree: Tree = {}
    for key_node, value in node.value:
        key, where = key_node.value, f"{file}, line {key_node.start_mark.line + 1}"
        if not isinstance(key, str):
            raise ParamsError(f"{where}: a name must be text, not a list or a mapping")
        if key in tree:
            raise ParamsError(f"{where}: {key} is there twice")
        tree[key] = _tree(loader, value, file, seen)
    return tree


def _scalar(loader: Loader, node: yaml.ScalarNode, where: str) -> Any:
    """One value. Numbers that readers of YAML take for different ones are refused: 010 is 8 or 10, 1:30 is 90 or text."""
    text, plainly = node.value[:40], node.style in (None, "")
    if plainly and re.fullmatch(r"[-+]?0[\d_]+|[-+]?[\d_]+(:[\d_]+)+(\.\d*)?", node.value):
        raise ParamsError(
            f"{where}: {text} is ambiguous in YAML; write the number without a leading 0 or colons, or put text into quotes"
        )
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError, AttributeError, ArithmeticError, TypeError):  # what PyYAML raises for a tag that does not fit
        raise ParamsError(f"{where}: {text} is not a number or another value; put text into quotes") from None
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ParamsError(f"{where}: {text} is too large, whole numbers go up to {LARGEST}")
    return value
