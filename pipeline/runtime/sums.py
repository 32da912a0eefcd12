"""Checksums of text files, which have none of their own: written once by a stage, checked by those that read."""

import hashlib
from pathlib import Path

SUMS = "sha256sums"


def write_sums(folder: Path) -> None:
    """folder/sha256sums of all files below it, as the program sha256sum writes and checks them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_whole(path: Path, folder: Path) -> str:
    """A text file below `folder`. Raises ValueError with the reason where it is not the one that was listed."""
    try:
        content = path.read_bytes()
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        known = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise ValueError(str(error)) from error
    if known.get(path.relative_to(folder).as_posix()) != hashlib.sha256(content).hexdigest():
        raise ValueError(f"it differs from what {folder / SUMS} says")
    return content.decode()
