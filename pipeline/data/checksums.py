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
        _compare(path, expected[place], sums)


def verify_listed(sums: Path, files: list[Path]) -> None:
    """Likewise, but files that are not in the list are passed over: one that lies beside them may be of other files."""
    expected = _read_sums(sums)
    for path in files:
        if (place := os.path.realpath(path)) in expected:
            _compare(path, expected[place], sums)


def _compare(path: Path, expected: str, sums: Path) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): fetch it again") from error
    if found != expected:
        raise ValueError(
            f"{path} has SHA-256 {found}, {sums} says {expected}: it is damaged or another version, delete it and fetch it again"
        )


def _read_sums(sums: Path) -> dict[str, str]:
    try:
        lines = os.fsdecode(sums.read_bytes()).splitlines()  # paths in it are bytes as in the file system, whatever the locale
    except OSError as error:
        raise ValueError(f"{sums} cannot be read ({error}): make it readable, give another list, or none") from error
    expected = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.strip().partition(" ")
        if not line.strip():
            continue
        if len(digest) != 64 or not name:
            raise ValueError(f"{sums}, line {number}: must be a SHA-256 and a path as sha256sum writes them, got {line[:100]!r}")
        expected[os.path.realpath(sums.parent / name.strip().removeprefix("*"))] = digest.lower()
    return expected
