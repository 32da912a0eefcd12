"""Source parquet, on small made files in the layouts of the hub and on the real sets where they are at hand."""

import hashlib
import io
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from PIL import Image
from pydantic import ValidationError

from pipeline.data.parquet_files import parquet
from pipeline.data.public_sets import public_set
from pipeline.data.sources import SOURCES
from pipeline.data.splits import channel_statistics
from pipeline.params.choices import SourceChoice, problems_of

REAL = ROOT / ".." / "shared" / "data"
AUTO: dict[str, Any] = {"image_column": None, "label_column": None, "sha256sums": None}
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12) % 3
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not in ../shared/data")


def encode(image: np.ndarray, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(buffer, format=format, lossless=True)
    return buffer.getvalue()


def write_parquet(path: Path, encoded: list[Any], labels: dict[str, Any], names: list[str] | None, column: str = "img") -> Path:
    """labels: column name -> values; the first one is the ClassLabel with `names`. The layout that the hub writes."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": b, "path": None} for b in encoded], type=kind)
    label = next(iter(labels))
    features = {column: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    table = pa.table({column: images, **{name: pa.array(values) for name, values in labels.items()}})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=5)
    return path


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        columns = {"fine_label": LABELS, "coarse_label": LABELS // 2}
        path = tmp_path / f"{split}-00000-of-00001.parquet"
        write_parquet(path, [encode(x, "WEBP") for x in RGB], columns, ["apple", "bear", "crab"])
    return tmp_path


def refuses(folder: Path, match: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=match):
        parquet(**{"train": str(folder), "test": str(folder), **AUTO, **options})


def test_cifar100_layout(cifar100: Path) -> None:
    for place in (str(cifar100), str(cifar100 / "train-*.parquet")):
        train, test, classes = parquet(train=place, test=str(cifar100 / "test-00000-of-00001.parquet"), **AUTO)
        np.testing.assert_array_equal(train.images, RGB)
        np.testing.assert_array_equal(test.images, RGB)
        np.testing.assert_array_equal(train.labels, LABELS)
        assert classes == ["apple", "bear", "crab"]
    coarse = parquet(train=str(cifar100), test=str(cifar100), **AUTO | {"label_column": "coarse_label"})
    assert coarse[2] == ["0", "1"]  # the schema names only the classes of fine_label


def test_torch_is_not_imported(cifar100: Path) -> None:
    code = (
        "import sys; from pipeline.data.sources import SOURCES; place = sys.argv[1]; options = dict.fromkeys(sys.argv[2:]); "
        "SOURCES['parquet'](train=place, test=place, **options); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(cifar100), *AUTO]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_svhn_layout_in_several_shards(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k in range(2):
            part = slice(6 * k, 6 * k + 6)
            path = tmp_path / f"{split}-0000{k}-of-00002.parquet"
            write_parquet(path, [encode(x) for x in RGB[part]], {"label": LABELS[part]}, ["0", "1", "2"], column="image")
    train, _, classes = parquet(train=str(tmp_path), test=str(tmp_path), **AUTO)
    np.testing.assert_array_equal(train.images, RGB)
    np.testing.assert_array_equal(train.labels, LABELS)
    assert classes == ["0", "1", "2"]
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    refuses(tmp_path, r"train-00001-of-00002\.parquet is missing")
    (tmp_path / "train-00001-of-00002.parquet").symlink_to("train-00001-of-00002.parquet")
    refuses(tmp_path, r"train-00001-of-00002\.parquet is cut off, damaged or not parquet .*symbolic links")


def test_bare_bytes_and_no_metadata(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([encode(x) for x in GREY], type=pa.binary()), "label": LABELS})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}-0.parquet")
    train, _, classes = parquet(train=str(tmp_path), test=str(tmp_path), **AUTO)
    np.testing.assert_array_equal(train.images, GREY[:, None])
    assert classes == ["0", "1", "2"]


def test_damaged_files(cifar100: Path) -> None:
    path = cifar100 / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuses(cifar100, r"train-00000-of-00001\.parquet is cut off, damaged.*delete it and fetch it again")
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    path.write_bytes(whole[:200] + bytes(len(whole) - footer - 200) + whole[-footer:])  # footer whole, data gone
    refuses(cifar100, "fetch it again")
    path.unlink()
    refuses(cifar100, r"no file .*train-\*\.parquet: fetch")


def test_checksums(cifar100: Path) -> None:
    sums = cifar100 / "SHA256SUMS"
    files = sorted(cifar100.glob("*.parquet"))
    sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files))
    parquet(train=str(cifar100), test=str(cifar100), **AUTO | {"sha256sums": str(sums)})
    good = sums.read_text()
    sums.write_text("0" * 64 + good[64:])
    refuses(cifar100, "test-.* has SHA-256 .* delete it", sha256sums=str(sums))
    sums.write_text(good.splitlines()[0])
    refuses(cifar100, "train-.* is not in", sha256sums=str(sums))
    sums.write_text("hello\n")
    refuses(cifar100, "line 1", sha256sums=str(sums))
    refuses(cifar100, "nosuch cannot be read", sha256sums="nosuch")


@pytest.mark.parametrize("column", ["img", "fine_label"])
def test_another_bit_that_only_the_checksum_of_a_page_tells(cifar100: Path, column: str) -> None:
    encoded = [encode(x, "BMP") for x in RGB]  # which has no checksum of its own
    cells = pa.array(encoded) if column == "img" else pa.array([encode(x) for x in RGB])
    table = pa.table({"img": cells, "fine_label": pa.array(LABELS, pa.int64())})
    path = cifar100 / "train-00000-of-00001.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    whole, part = path.read_bytes(), encoded[3][-40:] if column == "img" else LABELS.astype("<i8").tobytes()
    place = whole.index(part)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    test = table.slice(0, 3)
    pq.write_table(test, cifar100 / "test-00000-of-00001.parquet")
    refuses(cifar100, r"train-00000-of-00001\.parquet is cut off, damaged or not parquet .*(CRC|checksum).*fetch it again")


@pytest.mark.parametrize("list_in", [".", "mnist"])
def test_a_public_set_is_checked_by_the_list_beside_it(tmp_path: Path, list_in: str) -> None:
    (tmp_path / "mnist").mkdir()
    for split in ("train", "test"):
        write_parquet(tmp_path / "mnist" / f"{split}-0.parquet", [encode(x) for x in GREY], {"label": LABELS}, ["a", "b", "c"])
    sums = tmp_path / list_in / "SHA256SUMS"
    read = partial(public_set, dataset="mnist", form="parquet", folder=str(tmp_path))
    line = f"{{}}  {'' if list_in == 'mnist' else 'mnist/'}{{}}-0.parquet\n"
    good = hashlib.sha256((tmp_path / "mnist" / "train-0.parquet").read_bytes()).hexdigest()
    sums.write_text(line.format(good, "train") + line.format("0" * 64, "other"))  # test is not listed, and other not read
    np.testing.assert_array_equal(read()[0].images, GREY[:, None])
    sums.write_text(line.format(good, "train") + line.format("0" * 64, "test"))
    with pytest.raises(ValueError, match=rf"test-0\.parquet has SHA-256 .*, {sums} says 000") as caught:
        read()
    assert "\n" not in str(caught.value)
    (tmp_path / "mnist" / "test-0.parquet").unlink()
    (tmp_path / "mnist" / "test-0.parquet").symlink_to("gone")
    sums.write_text(line.format("0" * 64, "test"))
    with pytest.raises(ValueError, match=r"test-0\.parquet cannot be read \(No such file or directory\): fetch it again"):
        read()


def test_a_checksum_list_is_read_whatever_the_locale(cifar100: Path) -> None:
    folder = cifar100 / "café"
    folder.mkdir()
    for split in ("train", "test"):
        (cifar100 / f"{split}-00000-of-00001.parquet").rename(folder / f"{split}-0.parquet")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (cifar100 / "SHA256SUMS").write_text("".join(line.replace("  ", "  café/") for line in lines), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from pipeline.data.checksums import verify_checksums; place = Path(sys.argv[1]); "
        "verify_checksums(place / 'SHA256SUMS', sorted(place.glob('*/*.parquet')))"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(cifar100)], cwd=ROOT, env=environment, check=True)


def test_columns_that_are_not_there(cifar100: Path) -> None:
    refuses(cifar100, "no column label, it has img, fine_label, coarse_label: set label_column", label_column="label")
    refuses(cifar100, "no column image, it has img", image_column="image")
    refuses(cifar100, "column img must hold integers", label_column="img")
    refuses(cifar100, "column fine_label must hold images", image_column="fine_label")
    refuses(cifar100, "in train and in test", test=str(cifar100 / "train-00000-of-00001.parquet"))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"encoded": b"no image"}, "row 7: cannot identify image file"),
        ({"encoded": encode(RGB[0])[:900]}, "row 7: image file is truncated"),
        ({"encoded": None}, "row 7: holds no image bytes"),
        ({"encoded": encode(RGB[0][:, :16])}, "row 0, 32x32; set `size` to resize all: .*row 7 is 32x16$"),
        ({"label": 3}, r"row 7: label is 3, must be in 0\.\.2"),
        ({"label": -1}, "row 7: label is -1"),
        ({"label": None}, "row 7: label is None"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any], match: str) -> None:
    encoded, labels = [encode(x) for x in RGB], LABELS.tolist()
    write_parquet(tmp_path / "test-0.parquet", encoded, {"label": labels}, ["a", "b", "c"])
    encoded[7], labels[7] = bad.get("encoded", encoded[7]), bad.get("label", labels[7])
    write_parquet(tmp_path / "train-0.parquet", encoded, {"label": labels}, ["a", "b", "c"])
    refuses(tmp_path, rf"train-0\.parquet, {match}")


def test_names_of_classes_that_do_not_fit_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(split: str, labels: np.ndarray, names: list[str]) -> None:
        write_parquet(tmp_path / f"{split}-0.parquet", [encode(x) for x in RGB], {"label": labels}, names)

    for split in ("train", "test"):
        write(split, LABELS, ["a", "b", "a"])
    refuses(tmp_path, "several classes are called a, .*: give each its own name")
    for split in ("train", "test"):
        write(split, LABELS % 2, ["a", "b", "猫"])
    assert parquet(train=str(tmp_path), test=str(tmp_path), **AUTO)[2] == ["a", "b", "猫"]
    assert "no image at all of 猫" in capsys.readouterr().err
    write("test", LABELS, ["a", "b", "猫"])
    refuses(tmp_path, "classes in test without training images: 猫")


@pytest.mark.parametrize(
    "odd", ["b\nc", "", "b\0", "\ud800", "b\u202ec", "b" * 5000], ids=["newline", "empty", "nul", "half", "bidi", "long"]
)
def test_an_odd_name_of_a_class_is_refused(tmp_path: Path, odd: str) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-0.parquet", [encode(x) for x in RGB], {"label": LABELS}, ["a", odd, "c"])
    refuses(tmp_path, rf"^{tmp_path}: class 1 is called '.*: a name has 1 to 255 characters of any script.*: rename the class$")


def test_two_spellings_of_one_name_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        names = ["caf\u00e9", "cafe\u0301", "tea"]
        write_parquet(tmp_path / f"{split}-0.parquet", [encode(x) for x in RGB], {"label": LABELS}, names)
    refuses(tmp_path, "several classes are called café, perhaps in different code points")


def test_all_bad_rows_of_both_splits_are_named_at_once(tmp_path: Path) -> None:
    for split, bad in {"train": (2, 9), "test": (4,)}.items():
        encoded = [b"no image" if i in bad else encode(x) for i, x in enumerate(RGB)]
        write_parquet(tmp_path / f"{split}-0.parquet", encoded, {"label": LABELS}, ["a", "b", "c"])
    refuses(tmp_path, r"^3 of 24 images cannot be decoded.*train-0\.parquet, row 2: .*train-0.*row 9: .*test-0\.parquet, row 4: ")


def test_grey_and_colour_in_one_set(tmp_path: Path) -> None:
    encoded = [encode(RGB[0][0]), encode(RGB[1])]  # grey first, so that what was read turns to colour
    write_parquet(tmp_path / "train-0.parquet", encoded, {"label": [0, 1]}, ["a", "b"])
    write_parquet(tmp_path / "test-0.parquet", encoded[:1], {"label": [0]}, ["a", "b"])
    train, test, _ = parquet(train=str(tmp_path), test=str(tmp_path), **AUTO)
    np.testing.assert_array_equal(train.images, [[RGB[0][0]] * 3, RGB[1]])
    np.testing.assert_array_equal(test.images, [[RGB[0][0]] * 3])
    grey = parquet(train=str(tmp_path), test=str(tmp_path), channels=1, size=8, **AUTO)[0].images
    pil = Image.fromarray(RGB[1].transpose(1, 2, 0)).convert("L").resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(grey[1, 0], np.asarray(pil))


STRUCT = [("bytes", pa.binary_view()), ("path", pa.string_view())]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (lambda encoded: pa.array(encoded, pa.binary_view()), lambda values: pa.array(values, pa.uint8())),
        (lambda encoded: pa.array(encoded, pa.large_binary()), lambda values: pa.array(values, pa.int16())),
        (lambda encoded: pa.array(encoded).dictionary_encode(), lambda values: pa.array(values).dictionary_encode()),
        (lambda encoded: pa.array([{"bytes": b, "path": "x"} for b in encoded], pa.struct(STRUCT)), pa.array),
        (lambda encoded: pa.StructArray.from_arrays([pa.array(encoded).dictionary_encode()], ["bytes"]), pa.array),
    ],
    ids=["view", "large", "dictionary", "struct of views", "struct of a dictionary"],
)
def test_arrow_types(tmp_path: Path, images: Any, labels: Any) -> None:
    table = pa.table({"image": images([encode(x) for x in GREY]), "label": labels(LABELS.tolist())})
    for split in ("train", "test"):
        groups = {} if table.schema.field("image").type == pa.struct(STRUCT) else {"row_group_size": 5}  # Arrow cannot write that
        pq.write_table(table, tmp_path / f"{split}-0.parquet", **groups)
    train = parquet(train=str(tmp_path), test=str(tmp_path), **AUTO)[0]
    np.testing.assert_array_equal(train.images, GREY[:, None])
    np.testing.assert_array_equal(train.labels, LABELS)


def test_labels_with_gaps_and_other_names(tmp_path: Path) -> None:
    encoded = [encode(x) for x in RGB]
    write = partial(write_parquet, encoded=encoded)
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", labels={"label": LABELS * 2}, names=None)
    refuses(tmp_path, "without gaps, got 3 different ones from 0 to 4")
    write(tmp_path / "train-0.parquet", labels={"label": LABELS}, names=["a", "b", "c"])
    write(tmp_path / "test-0.parquet", labels={"label": LABELS}, names=["a", "c", "b"])
    refuses(tmp_path, "same class names")


@needs_real
def test_mnist_test_file(tmp_path: Path) -> None:
    other = write_parquet(tmp_path / "other.parquet", [encode(x) for x in GREY], {"label": LABELS}, list("0123456789"))
    part, _, classes = parquet(train=str(REAL / "mnist" / "test-*.parquet"), test=str(other), **AUTO)
    assert part.images.shape == (10000, 1, 28, 28)
    # the counts and first labels of LeCun's t10k-labels
    assert np.bincount(part.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert part.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert classes == list("0123456789")


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "first", "mean", "std"),
    [  # published figures
        ("cifar10", "airplane", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("mnist", "0", [0.1307], [0.3081]),
        ("fashion_mnist", "T - shirt / top", [0.2860], [0.3530]),
    ],
)
def test_published_mean_and_std(folder: str, first: str, mean: list[float], std: list[float]) -> None:
    place = str(REAL / folder)
    train, test, classes = parquet(train=place, test=place, **AUTO | {"sha256sums": str(REAL / "SHA256SUMS")})
    measured = channel_statistics(train.images)
    assert ([round(m, 4) for m in measured[0]], [round(s, 4) for s in measured[1]]) == (mean, std)
    assert len(train.labels) == (50000 if folder == "cifar10" else 60000)
    assert len(test.labels) == 10000
    assert (classes[0], len(classes)) == (first, 10)


def test_params_may_say_size_and_channels_and_need_not() -> None:
    def problems(**more: Any) -> str:
        options = {"name": "parquet", "train": "a", "test": "b", **AUTO, **more}
        try:
            SourceChoice.model_validate(options, context={"sources": SOURCES})
        except ValidationError as error:
            return "; ".join(problems_of(error))
        return ""

    assert problems() == problems(size=32, channels=1) == problems(size=None, channels=None) == ""
    assert "channels" in problems(channels=2)
    assert "size" in problems(size=0)
