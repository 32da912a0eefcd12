"""Files that are either whole or not there, and keys that say what a result was made from."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write to, beside `path`, that takes its place when the block ends well and is removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # same suffix: some writers go by it
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut after the rename leaves an empty file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(inputs: Iterable[str | Path], *further: object) -> str:
    """What a result follows from: the bytes of its input files, its item's file among them, which has its params and the digests of
    its code; and anything else, such as the seed. Equal keys mean equal work, so a checkpoint or a tracked run with the key belongs
    to it."""
    parts = [*map(file_digest, inputs), *map(str, further)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
