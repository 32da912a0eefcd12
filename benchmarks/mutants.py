"""Do the tests notice a wrong line? In a copy of the project, changes one operator, number or call of the computing rooms at a
time, and runs the tests of that room, then those of other rooms that use it. Writes metrics/mutants.md. `make mutants`."""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
ROOMS = ("losses", "attacks", "training", "evaluation", "data")
NEXT = {  # tests that are run where those of the room itself notice nothing
    "losses": ["training", "jobs"],
    "attacks": ["evaluation", "jobs", "training"],
    "training": ["jobs", "runtime", "attacks"],
    "evaluation": ["jobs", "attacks", "reporting", "stages"],
    "data": ["training", "jobs", "stages", "attacks"],
}
OPERATORS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
COMPARISONS: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
PAIRS = [("min", "max"), ("amin", "amax"), ("minimum", "maximum"), ("sum", "mean"), ("argmin", "argmax"), ("any", "all")]
CALLS = dict(PAIRS) | {second: first for first, second in PAIRS}
DROPPED = ("clamp", "clamp_", "detach", "abs", "sqrt", "square", "sign", "exp", "log", "flip", "sort", "eval")  # x.clamp(...) -> x
SILENT = ("print", "tqdm", "set_description", "set_postfix_str", "warn", "Field", "field")  # a change there changes no result


KEYS = ["file", "line", "was", "changed to"]  # of the table, by which a change is known again


class Mutant(NamedTuple):
    """A file of pipeline/, with the text between two places replaced."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str


def mutants(file: Path) -> Iterator[Mutant]:
    """All of a file."""
    text = file.read_text(encoding="utf-8")
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))  # ast counts bytes
    content = text.encode()
    for node in _executed(ast.parse(text)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        old = content[start:end].decode()
        for new in _changes(node):
            new = f"({new})" if isinstance(node, ast.BinOp) else new
            yield Mutant(str(file.relative_to(ROOT)), node.lineno, start, end, old, new)


def _executed(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions in functions, without annotations, default values, docstrings, messages and assertions for the type checker.
    Numbers at the head of a file are choices, and not changed."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            for statement in child.body:
                yield from _executed(ast.Module([statement], []))
        elif not _is_left_out(child):
            if isinstance(child, ast.expr):
                yield child
            yield from _executed(child)


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.arguments | ast.AnnAssign):
        return True
    if isinstance(node, ast.Assign) and node.col_offset == 0:
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Expr):
        node = node.value
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in SILENT


def _changes(node: ast.expr) -> Iterator[str]:
    """What it might have been by mistake."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not isinstance(node.left, ast.Constant | ast.JoinedStr):
        yield ast.unparse(ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield ast.unparse(ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield repr(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in CALLS:
            yield ast.unparse(ast.Call(ast.Attribute(node.func.value, CALLS[node.func.attr]), node.args, node.keywords))
        elif node.func.attr in DROPPED:
            yield ast.unparse(node.func.value)
    elif isinstance(node, ast.IfExp):
        yield ast.unparse(ast.IfExp(node.test, node.orelse, node.body))


def copy_of_the_project(folder: Path) -> Path:
    """What git has of it, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def tested(mutant: Mutant, folder: Path, limit: float) -> tuple[str, float]:
    """Which tests noticed, `timeout` or `none`; seconds."""
    file, room = folder / mutant.file, mutant.file.split("/")[1]
    whole, start = file.read_bytes(), time.monotonic()
    file.write_bytes(whole[: mutant.start] + mutant.new.encode() + whole[mutant.end :])
    shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)  # two writes within a second look alike to Python
    try:
        return noticed([room, *NEXT[room]], folder, limit), time.monotonic() - start
    finally:
        file.write_bytes(whole)


def noticed(rooms: Sequence[str], folder: Path, limit: float) -> str:
    """The first of the rooms whose tests fail, `timeout` or `none`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("DVC_ROOT", None)
    for name in rooms:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", f"tests/{name}"]
        try:
            if subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=limit).returncode:
                return name
        except subprocess.TimeoutExpired:
            return "timeout"
    return "none"


def as_markdown(table: pd.DataFrame, seed: int, tried: int) -> str:
    found = table["noticed"] != "none"
    rooms = table.assign(found=found).groupby("room")["found"]
    by_room = pd.DataFrame({"mutants": rooms.size(), "noticed": rooms.sum()})
    left = table[~found].drop(columns=["noticed", "seconds"])
    return "\n".join(
        [
            "# Mutants: do the tests notice a wrong line?",
            "",
            f"Written by `make mutants`: {tried} single changes of {', '.join(ROOMS)}, drawn by seed {seed}. The tests noticed "
            f"{int(found.sum())}, {100 * found.mean():.1f} %.",
            "",
            by_room.to_markdown(),
            "",
            "Not noticed:" if len(left) else "",
            "",
            left.to_markdown(index=False) if len(left) else "",
            "",
        ]
    )


def drawn(count: int, seed: int, rooms: Sequence[str]) -> list[Mutant]:
    """A random sample over the rooms, each file as likely as it is long."""
    files = [file for room in rooms for file in sorted((ROOT / "pipeline" / room).rglob("*.py")) if file.name != "__init__.py"]
    every = [mutant for file in files for mutant in mutants(file)]
    return random.Random(seed).sample(every, min(count, len(every)))


def row_of(mutant: Mutant, found: str, seconds: float) -> dict[str, object]:
    where = {"room": mutant.file.split("/")[1], "file": mutant.file.removeprefix("pipeline/"), "line": mutant.line}
    changed = {"was": f"`{mutant.old}`", "changed to": f"`{mutant.new}`"}
    return {**where, **changed, "noticed": found, "seconds": round(seconds, 1)}


def tried_before(path: Path, todo: Sequence[Mutant]) -> pd.DataFrame:
    """Those of a table that an earlier run has left at path which are in todo."""
    wanted = pd.DataFrame([row_of(mutant, "", 0.0) for mutant in todo])[KEYS].drop_duplicates()
    return pd.read_csv(path).merge(wanted, on=KEYS) if path.exists() else pd.DataFrame(columns=[*KEYS, "noticed"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many changes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="side by side (default: %(default)s)")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for the tests of a room (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the changes and run nothing")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("metrics/mutants.md"),
        help="beside it a .csv, whose changes are not tried again: without it all are (default: %(default)s)",
    )
    chosen = parser.parse_args()
    todo = drawn(chosen.count, chosen.seed, chosen.rooms)
    if chosen.list:
        for mutant in todo:
            print(f"{mutant.file}:{mutant.line}: {mutant.old} -> {mutant.new}")
        return 0
    table = tried_before(chosen.out.with_suffix(".csv"), todo)
    known = set(table[KEYS].itertuples(index=False, name=None))
    free = SimpleQueue[Path]()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(chosen.jobs) as pool:
        for number in range(chosen.jobs):
            free.put(copy_of_the_project(Path(folder, str(number))))

        def unchanged(room: str) -> str:
            own = free.get()
            found = noticed([room], own, chosen.limit)
            free.put(own)
            return found

        def work(mutant: Mutant) -> dict[str, object]:
            own = free.get()
            try:
                return row_of(mutant, *tested(mutant, own, chosen.limit))
            finally:
                free.put(own)

        used = sorted({name for room in chosen.rooms for name in [room, *NEXT[room]]})
        if failing := [room for room, found in zip(used, pool.map(unchanged, used), strict=True) if found != "none"]:
            parser.error(f"tests of {', '.join(failing)} fail or take too long without any change: nothing could be told from them")
        rows = {mutant: row_of(mutant, "", 0.0) for mutant in todo}
        left = [mutant for mutant, row in rows.items() if tuple(row[key] for key in KEYS) not in known]
        for done in tqdm(as_completed([pool.submit(work, mutant) for mutant in left]), total=len(left), unit="mutant"):
            table = pd.concat([table, pd.DataFrame([done.result()])], ignore_index=True)
            table.to_csv(chosen.out.with_suffix(".csv"), index=False)
            chosen.out.write_text(as_markdown(table, chosen.seed, len(table)), encoding="utf-8")
    print(as_markdown(table, chosen.seed, len(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
