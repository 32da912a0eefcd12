"""Sources sklearn_digits, torchvision and image_folder, on small made files in the real formats."""

import errno
import fcntl
import gzip
import hashlib
import http.server
import io
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision import datasets

from pipeline.data import downloads
from pipeline.data.digits import sklearn_digits
from pipeline.data.image_folders import image_folder
from pipeline.data.torchvision_sets import torchvision

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12) % 3


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path/server; -> its address."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def cifar10(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made CIFAR-10 archive on the server with torchvision's checksums set to it -> the archive."""
    rows = RGB.reshape(12, -1)
    members = {f"data_batch_{k}": pickle.dumps({"data": rows[[k]], "labels": [int(LABELS[k])]}) for k in range(1, 6)}
    members["test_batch"] = pickle.dumps({"data": rows[6:], "labels": LABELS[6:].tolist()})
    members["batches.meta"] = pickle.dumps({"label_names": ["plane", "car", "bird"]})
    archive = tmp_path / "server" / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    kind = datasets.CIFAR10
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(kind, "url", server + archive.name)
    monkeypatch.setattr(kind, "tgz_md5", md5(archive.read_bytes()))
    monkeypatch.setattr(kind, "train_list", [[name, md5(members[name])] for name in list(members)[:5]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5(members["test_batch"])]])
    monkeypatch.setattr(kind, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(members["batches.meta"])})
    return archive


def idx(array: np.ndarray) -> bytes:
    """LeCun's format: two zeros, 8 for unsigned byte, the number of axes, their lengths, the values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made MNIST files on the server with torchvision's checksums set to them."""
    resources = []
    for split, part in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        for name, array in ((f"{split}-images-idx3-ubyte.gz", GREY[part]), (f"{split}-labels-idx1-ubyte.gz", LABELS[part])):
            content = gzip.compress(idx(array))
            (tmp_path / "server" / name).write_bytes(content)
            resources.append((name, md5(content)))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server])


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_digits_are_those_of_scikit_learn() -> None:
    train, test, classes = sklearn_digits(test_fraction=0.2, seed=0)
    images, labels = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    rows = np.rint(images.reshape(1797, 64) / 255 * 16).astype(int)  # back to 0..16
    ours = sorted(zip(rows.tolist(), labels.tolist(), strict=True))
    theirs = load_digits()
    assert ours == sorted(zip(theirs.data.astype(int).tolist(), theirs.target.tolist(), strict=True))
    assert (images.min(), images.max()) == (0, 255)
    assert classes == list("0123456789")


def test_digits_test_split_is_stratified_and_seeded() -> None:
    tests = [sklearn_digits(test_fraction=0.2, seed=seed)[1] for seed in (0, 0, 1)]
    # scikit-learn has 178 182 177 183 181 182 181 179 174 180 of each digit
    np.testing.assert_allclose(np.bincount(tests[0].labels), np.bincount(load_digits().target) / 5, atol=1)
    np.testing.assert_array_equal(tests[0].images, tests[1].images)
    assert (tests[0].labels != tests[2].labels).any()


def test_cifar_is_downloaded_checked_and_then_read_from_the_folder(cifar10: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    train, test, classes = torchvision(dataset="CIFAR10", folder=str(folder))
    np.testing.assert_array_equal(train.images, RGB[1:6])
    np.testing.assert_array_equal(train.labels, LABELS[1:6])
    np.testing.assert_array_equal(test.images, RGB[6:])
    assert classes == ["plane", "car", "bird"]
    cifar10.unlink()  # from here on nothing can be downloaded
    assert files_in(folder) == [cifar10.name]
    again, _, _ = torchvision(dataset="CIFAR10", folder=str(folder))
    np.testing.assert_array_equal(again.images, train.images)


def test_cifar_unpacked_without_its_archive_is_read_if_its_checksums_are_right(cifar10: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(cifar10, tmp_path / "raw")
    cifar10.unlink()
    before = files_in(tmp_path / "raw")
    np.testing.assert_array_equal(torchvision(dataset="CIFAR10", folder=str(tmp_path / "raw"))[0].images, RGB[1:6])
    assert files_in(tmp_path / "raw") == before
    (tmp_path / "raw" / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="could not get CIFAR10"):
        torchvision(dataset="CIFAR10", folder=str(tmp_path / "raw"))


def test_a_download_that_was_cut_off_is_removed(cifar10: Path, tmp_path: Path) -> None:
    cifar10.write_bytes(cifar10.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"could not get CIFAR10.*cut off or altered and is removed; run again"):
        torchvision(dataset="CIFAR10", folder=str(tmp_path / "raw"))
    assert files_in(tmp_path / "raw") == []


@pytest.mark.usefixtures("cifar10", "mnist")
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:1/"
    monkeypatch.setattr(datasets.CIFAR10, "url", nowhere + "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere])
    train, test, _ = datasets.SVHN.split_list.values()
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": [nowhere, *train[1:]], "test": [nowhere, *test[1:]]})
    for dataset in ("CIFAR10", "MNIST", "SVHN"):
        with pytest.raises(ValueError, match=f"could not get {dataset} .*refused.*without network put .*source parquet") as caught:
            torchvision(dataset=dataset, folder=str(tmp_path / "raw"))
        assert "\n" not in str(caught.value)
    assert files_in(tmp_path / "raw") == []
    damaged = tmp_path / "raw" / "cifar-10-python.tar.gz"
    damaged.write_bytes(b"half")
    with pytest.raises(ValueError, match=rf"delete {damaged}, its checksum is wrong"):
        torchvision(dataset="CIFAR10", folder=str(tmp_path / "raw"))
    assert damaged.exists()  # the user's file


@pytest.mark.usefixtures("mnist")
def test_mnist_is_read_from_its_archives_and_from_nothing_that_lies_unpacked_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "raw"
    train, test, classes = torchvision(dataset="MNIST", folder=str(folder))
    np.testing.assert_array_equal(train.images, GREY[:8, None])
    np.testing.assert_array_equal(test.labels, LABELS[8:])
    assert classes[9] == "9 - nine"
    raw = folder / "MNIST" / "raw"
    assert {path.suffix for path in raw.iterdir()} == {".gz"}
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/"])
    for archive in list(raw.iterdir()):  # whole, but for the last pixel, which no checksum tells
        content = gzip.decompress(archive.read_bytes())
        archive.with_suffix("").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = {path: path.read_bytes() for path in raw.iterdir()}
    np.testing.assert_array_equal(torchvision(dataset="MNIST", folder=str(folder))[0].images, train.images)
    assert {path: path.read_bytes() for path in raw.iterdir()} == before  # a shared folder is only read
    for archive in raw.glob("*.gz"):
        archive.unlink()
    with pytest.raises(ValueError, match="what is unpacked beside them has no checksum and is not used"):
        torchvision(dataset="MNIST", folder=str(folder))


@pytest.mark.usefixtures("mnist")
def test_the_second_mirror_is_asked_where_the_first_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/", *datasets.MNIST.mirrors])
    assert len(torchvision(dataset="MNIST", folder=str(tmp_path / "raw"))[0].labels) == 8


def test_a_download_that_stalls_ends_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
                connection.recv(4096)  # until the other side gives up

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{server.getsockname()[1]}/cifar-10-python.tar.gz")
        with pytest.raises(ValueError, match=r"could not get CIFAR10 .*timed out"):
            torchvision(dataset="CIFAR10", folder=str(tmp_path / "raw"))
    assert list((tmp_path / "raw").iterdir()) == []
    assert socket.getdefaulttimeout() is None


def test_a_download_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(url: str, folder: str, name: str) -> None:
        Path(folder, name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils.download_url", interrupt)
    with pytest.raises(KeyboardInterrupt):
        torchvision(dataset="SVHN", folder=str(tmp_path / "raw"))
    assert list((tmp_path / "raw").iterdir()) == []


HELD = """
import sys, time
from pathlib import Path
import torchvision.datasets.utils as utils
from pipeline.data.downloads import fetch

def stall(url, folder, name):
    Path(folder, name).write_bytes(b"half")
    print("started", flush=True)
    time.sleep(600)

utils.download_url = stall
fetch(Path(sys.argv[1], "b.gz"), ["http://127.0.0.1:1/"], "0")
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_download_has_left_goes_with_the_next_fetch_and_no_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: signal.Signals
) -> None:
    def download(url: str, folder: str, name: str) -> None:
        Path(folder, name).write_bytes(b"whole")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    other = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "started\n"
        (held,) = tmp_path.glob(".download-*")
        downloads.fetch(tmp_path / "a.gz", [""], md5(b"whole"))
        assert (held / "b.gz").read_bytes() == b"half"  # its process lives
    finally:
        other.send_signal(sign)
        other.communicate()
    assert held.is_dir()
    (tmp_path / ".download-of-old").mkdir()  # of a time before there were locks
    (tmp_path / ".download-notes").write_text("a file of the user's")
    downloads.fetch(tmp_path / "a.gz", [], md5(b"whole"))  # is there
    assert files_in(tmp_path) == [".download-notes", "a.gz"]
    assert not list(tmp_path.glob(".download-o*"))


def test_nothing_is_removed_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".download-x").mkdir()
    (tmp_path / "a.gz").write_bytes(b"whole")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", lambda url, folder, name: Path(folder, name).write_bytes(b"x"))
    downloads.fetch(tmp_path / "a.gz", [], md5(b"whole"))
    downloads.fetch(tmp_path / "b.gz", [""], md5(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download-x", "a.gz", "b.gz"]


def test_svhn_calls_the_digit_0_label_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split_list = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": RGB.transpose(2, 3, 1, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None].astype(np.uint8)})
        split_list[split] = ["http://127.0.0.1:1/", path.name, md5(path.read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    train, _, classes = torchvision(dataset="SVHN", folder=str(tmp_path))
    np.testing.assert_array_equal(train.images, RGB)
    np.testing.assert_array_equal(train.labels, LABELS)
    assert classes == list("0123456789")


def folders(root: Path, images: np.ndarray, classes: str = "abc") -> Path:
    """Image i of each split goes to class i % 3, its name is i."""
    for split in ("train", "test"):
        for i, image in enumerate(images):
            path = root / split / classes[i % 3] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(path)
    return root


def test_image_folder_reads_class_after_class_by_file_name(tmp_path: Path) -> None:
    train, test, classes = image_folder(folder=str(folders(tmp_path, RGB)), size=None, channels=3)
    for part in (train, test):
        np.testing.assert_array_equal(part.images, RGB[np.argsort(LABELS, kind="stable")])
        np.testing.assert_array_equal(part.labels, np.sort(LABELS))
    assert classes == ["a", "b", "c"]


def test_image_folder_makes_grey_and_resizes_as_pil_does(tmp_path: Path) -> None:
    train, _, _ = image_folder(folder=str(folders(tmp_path, RGB)), size=8, channels=1)
    pil = Image.fromarray(RGB[1].transpose(1, 2, 0)).convert("L").resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(train.images[4, 0], np.asarray(pil))
    assert image_folder(folder=str(folders(tmp_path / "grey", GREY)), size=None, channels=3)[0].images.shape == (12, 3, 28, 28)


def test_image_folder_errors(tmp_path: Path) -> None:
    def refuses(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            image_folder(folder=str(tmp_path), size=None, channels=3)

    refuses("train must hold a folder of images for each class")
    folders(tmp_path, RGB)
    bad = tmp_path / "train" / "b" / "01.png"
    Image.fromarray(GREY[0]).save(bad)
    refuses("^1 of 24 images have another size than .*a/00.png, 32x32; set `size` to resize all: .*b/01.png is 28x28$")
    bad.write_bytes(bad.read_bytes()[:300])
    refuses("1 of 24 images cannot be decoded.*01.png: image file is truncated")
    for path in (tmp_path / "train" / "b").iterdir():
        path.unlink()
    refuses("train: no image of b: add some")
    (tmp_path / "train" / "b").rmdir()
    refuses("only one of them has b")
