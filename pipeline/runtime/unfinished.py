"""What an item has done so far, kept for the run after a kill."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.runtime.distributed import from_main, is_main

KEPT = 14 * 24 * 3600  # seconds: a killed experiment with other params may be started again


@contextmanager
def unfinished_work(stage: str, *item: object, key: str) -> Iterator[Path]:
    """A folder for unfinished work: the one that a killed run with the same `key` has left. It is below .ckpt of the repository,
    also for copies of it (queued experiments). Where another process runs the same item at the same time, this process gets a
    folder of its own. The folder is locked by the operating system, which frees the lock of a killed process.

    When the block ends well the folder is removed, and those of other keys that nobody has worked in for KEPT."""
    place = Path(os.environ.get("DVC_ROOT", "."), ".ckpt", "-".join([stage, *map(str, item)]))
    lock, name = None, key
    if is_main():
        lock = _locked(place / name)
        if lock is None:
            name = f"{key}-{os.getpid()}"
            lock = _locked(place / name)
    try:
        yield place / from_main(name)
        if is_main():
            shutil.rmtree(place / name, ignore_errors=True)
            _remove_abandoned(place)
    finally:
        if lock is not None:
            lock.close()


def _locked(folder: Path, *, sure: bool = False) -> IO[str] | None:
    """The open lock file of the folder, which is made where it is missing; None where another process holds the lock, or, to be
    `sure`, where the file system has no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / "lock").open("w")
        except FileNotFoundError:  # removed just now by the run that had it
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), (folder / "lock").stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:  # likewise
            pass
        except OSError:  # a file system without locks
            if not sure:
                return file
            file.close()
            return None
        file.close()


def _remove_abandoned(place: Path) -> None:
    for folder in place.iterdir() if place.is_dir() else ():
        lock = _locked(folder, sure=True) if folder.is_dir() and _is_old(folder) else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
    with suppress(OSError):  # not empty
        place.rmdir()


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) > KEPT
    except FileNotFoundError:  # somebody works in it
        return False
