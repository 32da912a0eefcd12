"""The commands and code blocks of README.md and docs/, read from the text."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT
from markdown_it import MarkdownIt

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = (
    "make",
    "dvc",
    "python",
    "torchrun",
    "judge-defence",
    "pip",
    "source",
    "git",
    "grep",
    "cp",
    "mkdir",
    "python3",
    "touch",
    ".venv/bin/python",
    ".venv/bin/pip",
)


class Block(NamedTuple):
    page: str
    language: str  # of a fence; "" of an indented block, "inline" of code within a line
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """An indented block is several where blank lines part it."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            yield Block(page.name, token.info, token.content)
        elif token.type == "code_block":
            yield from (Block(page.name, "", part) for part in re.split(r"\n\n+", token.content.strip("\n")))
        for child in token.children or ():
            if child.type == "code_inline" and len(child.content.split()) > 1 and child.content.split()[0] in PROGRAMS:
                yield Block(page.name, "inline", child.content)


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without comments. With an assignment in front of it, as in a shell."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word != ";":
                words.append(word)
            elif words:
                yield words
                words = []


def is_command(text: str) -> bool:
    words = next(commands(text), [])
    return bool(words) and (words[0] in PROGRAMS or words[0].startswith("PIPELINE_LAUNCH="))
