"""Which files of ours a result follows from: those that a script imports, found in the source without running it, and of losses,
networks, attacks and sources those that the item uses."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

# Not followed. Params reach a result as the values of the item file, and logging changes no result. The modules of LOOKUPS import
# every implementation; those that an item uses are added by name. So is TAKES_IN, for items with a model from elsewhere.
CARRIERS = ("params", "tracking", "runtime/cli.py")
TAKES_IN = "jobs/adopt.py"
LOOKUPS = ("losses/__init__.py", "models/__init__.py", "attacks/__init__.py", "data/sources.py")


@cache
def import_graph(root: Path) -> dict[Path, set[Path]]:
    """For each file in root/pipeline and root/stages, those of them that it imports."""
    return {file: imports(file, root) for room in ("pipeline", "stages") for file in (root / room).rglob("*.py")}


def imports(file: Path, root: Path) -> set[Path]:
    """Files below `root` that a file imports, anywhere in it, with the __init__.py of their packages."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}  # a module, or what is in the module before the dot
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    paths = {root.joinpath(*name.split(".")) for name in names}
    paths |= {folder for path in paths for folder in path.parents if root in folder.parents}
    return {found for path in paths for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()}


def sources(root: Path, script: str, used: Iterable[Path], graph: Mapping[Path, set[Path]]) -> list[Path]:
    """stages/<script>.py, the files `used`, all that these import directly or not, save CARRIERS, LOOKUPS and TAKES_IN, and the
    files beside those that are not Python: templates, published numbers."""
    pipeline = root / "pipeline"
    left_out = {pipeline / name for name in (*LOOKUPS, TAKES_IN)}
    found, new = set[Path](), {root / "stages" / f"{script}.py", *used}
    while new:
        found |= new
        new = {path for file in new for path in graph[file]} - found - left_out
        new = {path for path in new if not path.is_relative_to(pipeline) or not _carries(path.relative_to(pipeline).as_posix())}
    beside = {path for room in {file.parent for file in found} for path in room.iterdir() if path.is_file()}
    return sorted(found | {path for path in beside if path.suffix != ".py" and not path.name.startswith(".")})


def _carries(path: str) -> bool:
    return path in CARRIERS or path.split("/")[0] in CARRIERS
