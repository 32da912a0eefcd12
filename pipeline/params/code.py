"""Which files a stage's results follow from: those of ours that its script imports, found in the source without running it."""

import ast
from collections.abc import Mapping
from pathlib import Path

# These carry params in, check them and carry logs out: DVC tracks the params themselves, and no result hangs on a check or a log.
NO_RESULTS = {"choices.py", "cli.py", "config.py", "consistency.py", "lookups.py", "tracking.py"}


def import_graph(root: Path) -> dict[Path, set[Path]]:
    """For each file in root/pipeline and root/stages, those of them that it imports."""
    return {file: imports(file, root) for room in ("pipeline", "stages") for file in (root / room).rglob("*.py")}


def imports(file: Path, root: Path) -> set[Path]:
    """Files below `root` that a file imports, anywhere in it, with the __init__.py of their packages."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}  # a module, or what is in the module before the dot
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    paths = {root.joinpath(*name.split(".")) for name in names}
    paths |= {folder for path in paths for folder in path.parents if root in folder.parents}
    return {found for path in paths for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()}


def sources(script: Path, graph: Mapping[Path, set[Path]]) -> list[Path]:
    """The script, all that it imports directly or not, save NO_RESULTS, and the files beside those that are not Python: templates,
    published numbers."""
    found, new = set[Path](), {script}
    while new:
        found |= new
        new = {path for file in new for path in graph[file] if path.name not in NO_RESULTS} - found
    beside = {path for room in {file.parent for file in found} for path in room.iterdir() if path.is_file()}
    return sorted(found | {path for path in beside if path.suffix != ".py" and not path.name.startswith(".")})
