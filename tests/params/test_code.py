"""What of a file counts: what runs."""

import ast
from pathlib import Path

import pytest

from pipeline.params.code import code_digest, import_graph, imports, sources, without_words

ROOT = Path(__file__).parents[2]
CODE = '''"""Module."""

import math  # why

TEXT = """not a docstring"""
"""What TEXT is."""


class Loss:
    """One line."""

    weight = 1.0  # of the paper

    def value(self, x: float) -> float:
        """Several
        lines."""
        # why not exp
        return math.log(x)  # natural
'''
SAME = [
    ('"""Module."""', '"""Another # text."""'),
    ('"""Module."""\n', ""),
    ("  # why\n", "\n"),
    ('"""What TEXT is."""\n', ""),
    ('    """One line."""\n', '    """Two\n\n    lines."""  # and a comment\n'),
    ('        """Several\n        lines."""\n', ""),
    ("        # why not exp\n", ""),
    ("return math.log(x)  # natural", "return math.log(x)"),
]
OTHER = [
    ("1.0", "2.0"),
    ('"""not a docstring"""', '"""not a # docstring"""'),
    ("math.log(x)", "math.log(x)\n        # end\n        pass"),
    ('TEXT = """not a docstring"""', 'TEXT = ""'),
    ("        return", "            return"),
    ('"""One line."""', 'f"""One line."""'),
]


def digest(folder: Path, text: str, name: str = "code.py") -> str:
    code_digest.cache_clear()
    (folder / name).write_text(text, encoding="utf-8")
    return code_digest(folder / name)


@pytest.mark.parametrize(("old", "new"), SAME)
def test_comments_and_docstrings_do_not_count(old: str, new: str, tmp_path: Path) -> None:
    assert CODE.count(old) == 1
    assert digest(tmp_path, CODE.replace(old, new)) == digest(tmp_path, CODE)


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_all_else_counts(old: str, new: str, tmp_path: Path) -> None:
    assert CODE.count(old) == 1
    assert digest(tmp_path, CODE.replace(old, new)) != digest(tmp_path, CODE)


def test_of_other_files_every_byte_counts(tmp_path: Path) -> None:
    assert digest(tmp_path, "a,b  # c\n", "table.csv") != digest(tmp_path, "a,b\n", "table.csv")


def is_word(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def statements(tree: ast.Module) -> str:
    """Without those of one string."""
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [statement for statement in body if not is_word(statement)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def test_what_is_left_of_every_file_of_ours_is_the_same_code() -> None:
    """By Python's own parser, where no block is a docstring alone."""
    compared = 0
    for file in import_graph(ROOT):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        if all(not is_word(statement) for body in bodies if len(body) == 1 for statement in body):
            assert statements(ast.parse(without_words(text))) == statements(tree), file
            compared += 1
    assert compared > 180


def test_what_an_editor_leaves_beside_does_not_count(tmp_path: Path) -> None:
    for name in ("stages/train.py", "stages/train.py~", "stages/train.py.orig", "stages/page.css", "pipeline/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = sources(tmp_path, "train", [], import_graph(tmp_path))
    assert [file.name for file in found] == ["page.css", "train.py"]


def test_a_form_feed_takes_no_line_of_code_away(tmp_path: Path) -> None:
    """str.splitlines counts it as the end of a line, Python's grammar does not."""
    code = '"""Module."""\n\x0c\nrate = 0.1\n# comment\nx = rate\n'
    assert without_words(code) == "\x0c\nrate = 0.1\nx = rate\n"


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    losses = tmp_path / "pipeline/losses"
    losses.mkdir(parents=True)
    for name in ("hcp", "triplet", ".#hcp"):
        (losses / f"{name}.py").write_text("")
    (tmp_path / "pipeline/pgd.py").write_text("")
    (losses / "own.py").write_text("from .triplet import Triplet\nfrom . import hcp\nfrom ..pgd import pgd\n")
    assert imports(losses / "own.py", tmp_path) == {losses / "triplet.py", losses / "hcp.py", tmp_path / "pipeline/pgd.py"}
    assert losses / ".#hcp.py" not in import_graph(tmp_path)  # what an editor leaves there
