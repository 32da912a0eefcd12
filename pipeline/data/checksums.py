"""Checksum lists as `sha256sum` writes them."""

import hashlib
import os
from pathlib import Path


def verify_checksums(sums: Path, files: list[Path]) -> None:
    """Each file must be in the list, by its path relative to the list's folder, and agree with it. Raises ValueError if not."""
    expected = _read_sums(sums.expanduser())
    for path in files:
        if (place := os.path.realpath(path)) not in expected:
            raise ValueError(f"{path} is not in {sums}: add its line (sha256sum writes it) or set sha256sums to null")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected[place]:
            raise ValueError(
                f"{path} has SHA-256 {found}, {sums} says {expected[place]}: "
                "it is damaged or another version, delete it and fetch it again"
            )


def _read_sums(sums: Path) -> dict[str, str]:
    try:
        lines = sums.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{sums} cannot be read ({error}): give the checksum list's path or set sha256sums to null") from error
    expected = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.strip().partition(" ")
        if not line.strip():
            continue
        if len(digest) != 64 or not name:
            raise ValueError(f"{sums}, line {number}: must be a SHA-256 and a path as sha256sum writes them, got {line!r}")
        expected[os.path.realpath(sums.parent / name.strip().removeprefix("*"))] = digest.lower()
    return expected
