"""Files from the web: whole and with the right checksum, or not there."""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp

TIMEOUT = 30  # seconds without a byte
UNFINISHED = ".download-"  # what the name of a download's folder begins with


def fetch(path: Path, urls: Sequence[str], md5: str) -> None:
    """Downloads from the first of `urls` that has it, unless it is there. What comes is written beside `path` and renamed, so that
    whatever ends this leaves no half file there; what a killed process has left beside it is removed. Raises ValueError for a wrong
    checksum, else what the network or disk raises."""
    from torchvision.datasets.utils import check_integrity, download_url

    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent, fcntl.LOCK_EX):
        _remove_abandoned(path.parent)
    if path.is_file():
        if not check_integrity(path, md5):
            raise ValueError(f"delete {path}, its checksum is wrong")
        return
    with _folder_in(path.parent) as folder, _timeout():
        for url in urls:
            try:
                download_url(url, folder, path.name)
                break
            except OSError:
                if url == urls[-1]:
                    raise
        if not check_integrity(folder / path.name, md5):
            raise ValueError("the download was cut off or altered and is removed; run again")
        (folder / path.name).replace(path)


@contextmanager
def _folder_in(place: Path) -> Iterator[Path]:
    """A new folder, removed in the end. This process has a lock on it, which the operating system frees however it ends."""
    with ExitStack() as locks:
        with _locked(place, fcntl.LOCK_EX):  # none is removed between its making and its locking
            folder = Path(mkdtemp(dir=place, prefix=UNFINISHED))
            locks.enter_context(_locked(folder, fcntl.LOCK_SH))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    """Removes the folders of downloads that no living process has a lock on."""
    for folder in place.glob(f"{UNFINISHED}*/"):
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[bool]:
    """-> whether there is such a lock: not where another process has one, and not on a file system without locks."""
    with ExitStack() as opened:
        try:
            file = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, file)
            fcntl.flock(file, kind)
            has_lock = True
        except OSError:
            has_lock = False
        yield has_lock


@contextmanager
def _timeout() -> Iterator[None]:
    """torchvision passes none on to urllib, which then waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
