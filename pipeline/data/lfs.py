"""Pointers that a checkout without Git LFS has in place of files."""

from collections.abc import Sequence
from pathlib import Path

HEAD = b"version https://git-lfs.github.com/spec/"
ADVICE = "run `git lfs pull` where it comes from"


def refuse_pointers(files: Sequence[Path]) -> None:
    """Raises ValueError that names all that are pointers."""
    if pointers := [str(file) for file in files if _is_pointer(file)]:
        raise ValueError(f"a Git LFS pointer instead of the file, {ADVICE}: {', '.join(pointers)}")


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(len(HEAD)) == HEAD
    except OSError:  # who reads it says what is wrong with it
        return False
