"""Files from the web: whole and with the right checksum, or not there."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

TIMEOUT = 30  # seconds without a byte


def fetch(path: Path, urls: Sequence[str], md5: str) -> None:
    """Downloads from the first of `urls` that has it, unless it is there. What comes is written beside `path` and renamed, so that
    whatever ends this leaves no half file. Raises ValueError for a wrong checksum, else what the network or disk raises."""
    from torchvision.datasets.utils import check_integrity, download_url

    if path.is_file():
        if not check_integrity(path, md5):
            raise ValueError(f"delete {path}, its checksum is wrong")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".download-") as folder, _timeout():
        for url in urls:
            try:
                download_url(url, folder, path.name)
                break
            except OSError:
                if url == urls[-1]:
                    raise
        if not check_integrity(Path(folder, path.name), md5):
            raise ValueError("the download was cut off or altered and is removed; run again")
        Path(folder, path.name).replace(path)


@contextmanager
def _timeout() -> Iterator[None]:
    """torchvision passes none on to urllib, which then waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
