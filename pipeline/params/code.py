"""Which files of ours a result follows from: those that a script imports, found in the source without running it, and of losses,
networks, attacks and sources those that the item uses."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

# Not followed. Params reach a result as the values of the item file; logging, and how files are kept, change no result. The modules
# of LOOKUPS import every implementation; those that an item uses are added by name. So are those of OPTIONAL.
CARRIERS = ("params", "tracking", *(f"runtime/{name}.py" for name in ("checkpoint", "cli", "files", "sums", "unfinished")))
OPTIONAL = ("jobs/adopt.py", "jobs/prototypes.py", "models/ensemble.py", "training/awp.py", "training/ema.py")
DATA = (".csv", ".css", ".j2")  # what counts beside Python files, and not what editors leave there
LOOKUPS = ("losses/__init__.py", "models/__init__.py", "attacks/__init__.py", "data/sources.py")


@cache
def import_graph(root: Path) -> dict[Path, set[Path]]:
    """For each file in root/pipeline and root/stages, those of them that it imports."""
    return {file: imports(file, root) for room in ("pipeline", "stages") for file in (root / room).rglob("[!.]*.py")}


def imports(file: Path, root: Path) -> set[Path]:
    """Files below `root` that a file imports, anywhere in it, with the __init__.py of their packages."""
    names, here = set(), file.relative_to(root).parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), file)):
        if isinstance(node, ast.ImportFrom):
            module = [*(here[: -node.level] if node.level else ()), *filter(None, [node.module])]
            names |= {".".join([*module, alias.name]) for alias in node.names}  # a module, or what is in the module before the dot
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    paths = {root.joinpath(*name.split(".")) for name in names}
    paths |= {folder for path in paths for folder in path.parents if root in folder.parents}
    return {found for path in paths for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()}


def sources(root: Path, script: str, used: Iterable[Path], graph: Mapping[Path, set[Path]]) -> list[Path]:
    """stages/<script>.py, the files `used`, all that these import directly or not, save CARRIERS, LOOKUPS and OPTIONAL, and the
    files beside those that are not Python: templates, published numbers."""
    pipeline = root / "pipeline"
    left_out = {pipeline / name for name in (*LOOKUPS, *OPTIONAL)}
    found, new = set[Path](), {root / "stages" / f"{script}.py", *used}
    while new:
        found |= new
        new = {path for file in new for path in graph[file]} - found - left_out
        new = {path for path in new if not path.is_relative_to(pipeline) or not _carries(path.relative_to(pipeline).as_posix())}
    beside = {path for room in {file.parent for file in found} for path in room.iterdir() if path.is_file()}
    return sorted(found | {path for path in beside if path.suffix in DATA and not path.name.startswith(".")})


@cache
def code_digest(file: Path) -> str:
    """sha256 of a file, of Python `without_words`."""
    content = file.read_bytes()
    return hashlib.sha256(without_words(content.decode()).encode() if file.suffix == ".py" else content).hexdigest()


def without_words(text: str) -> str:
    """Python code without comments, docstrings and other strings that stand alone: they change no result."""
    lines = io.StringIO(text).readlines()  # as tokenize counts them: str.splitlines also splits at a form feed
    for (top, left), (bottom, right) in reversed([*_words(text)]):
        kept = lines[top - 1][:left].rstrip() + lines[bottom - 1][right:]
        lines[top - 1 : bottom] = [kept] if kept.strip() else []
    return "".join(lines)


def _words(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where they begin and end: line, from 1, and character."""
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.NL]
    new = True  # a statement begins here
    for token, after in pairwise(tokens):
        plain = token.type == tokenize.STRING and "f" not in token.string.lower().partition(token.string[-1])[0]
        alone = plain and new and after.type in (tokenize.NEWLINE, tokenize.COMMENT)
        if token.type == tokenize.COMMENT or alone:
            yield token.start, token.end
        elif token.type not in (tokenize.INDENT, tokenize.DEDENT):
            new = token.type == tokenize.NEWLINE


def _carries(path: str) -> bool:
    return path in CARRIERS or path.split("/")[0] in CARRIERS
