"""Source parquet: image data sets in the layout of the Hugging Face hub, from files at hand."""

import glob
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checksums import verify_checksums
from pipeline.data.image_set import ImageSet

BATCH = 1000  # rows held in encoded form at a time
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}  # PIL's mode: what it is read as


class Table(NamedTuple):
    """What the footers of a split's files say. classes: None where the schema names none."""

    files: list[Path]
    rows: int
    image_column: str
    label_column: str
    classes: list[str] | None


def parquet(
    *, train: str, test: str, image_column: str | None, label_column: str | None, sha256sums: str | None
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Reads parquet files -> train, test, classes; images (N, 1 or 3, H, W), without alpha channel.

    `train`, `test`: a file, a folder with train-*.parquet and test-*.parquet, or a glob. Columns: null takes image or img (a struct
    with `bytes`, or bytes) and label or fine_label (integers). `sha256sums`: a list as sha256sum writes it, paths relative to it;
    each file read must be in it and agree. Class names come from the Hugging Face metadata of the schema, else they are the labels.
    Raises ValueError that says what to do for any file, column, row or label that is not as this says.
    """
    files = {"train": _find(train, "train"), "test": _find(test, "test")}
    if both := sorted(set(files["train"]) & set(files["test"])):
        raise ValueError(f"{both[0]} is in train and in test: name different files")
    if sha256sums is not None:
        verify_checksums(Path(sha256sums), files["train"] + files["test"])
    tables = [_inspect(files[split], image_column, label_column) for split in ("train", "test")]
    if tables[0].classes != tables[1].classes:
        raise ValueError(f"train and test must have the same class names, got {tables[0].classes} and {tables[1].classes}")
    parts = [_read(table) for table in tables]
    return parts[0], parts[1], tables[0].classes or _label_names(parts)


def _find(place: str, split: str) -> list[Path]:
    """Files of a split, sorted; all shards or none: a missing one would make a smaller data set without a word."""
    path = Path(place).expanduser()
    if path.is_file():
        return [path.resolve()]
    pattern = str(Path(glob.escape(str(path))) / f"{split}-*.parquet") if path.is_dir() else str(path)
    files = sorted(Path(name).resolve() for name in glob.glob(pattern))  # noqa: PTH207 (absolute and relative patterns)
    if not files:
        raise ValueError(
            f"no file {pattern}: fetch the data set's parquet files from the Hugging Face hub and give their file, folder or glob"
        )
    shards = [re.search(r"(.*)-(\d+)-of-(\d+)\.parquet$", str(file)) for file in files]
    for shard in filter(None, shards):
        names = [f"{shard[1]}-{k:0{len(shard[2])}}-of-{shard[3]}.parquet" for k in range(int(shard[3]))]
        if missing := sorted(set(names) - {str(file) for file in files}):
            raise ValueError(f"{missing[0]} is missing, {len(names)} belong together: fetch it too")
    return files


def _inspect(files: list[Path], image_column: str | None, label_column: str | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, first = 0, None
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                rows += file.metadata.num_rows
                schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise ValueError(_damaged(path, error)) from error
        image = _column(path, schema.names, image_column, ("image", "img"), "image_column")
        label = _column(path, schema.names, label_column, ("label", "fine_label"), "label_column")
        if not pa.types.is_integer(schema.field(label).type):
            raise ValueError(f"{path}: column {label} must hold integers, it has type {schema.field(label).type}")
        if not _is_image(schema.field(image).type):
            raise ValueError(
                f"{path}: column {image} must hold images, a struct with `bytes` or bytes, it has type {schema.field(image).type}"
            )
        found = (image, label, _class_names(schema.metadata, label))
        if first is not None and found != first:
            raise ValueError(f"{path}: columns or class names are not those of {files[0]}: fetch both from one place")
        first = found
    assert first is not None  # _find gives one file or more
    if rows == 0:
        raise ValueError(f"{files[0]} has no rows")
    return Table(files, rows, *first)


def _column(path: Path, names: list[str], wanted: str | None, usual: tuple[str, ...], option: str) -> str:
    for name in usual if wanted is None else (wanted,):
        if name in names:
            return name
    looked_for = " or ".join(usual if wanted is None else (wanted,))
    raise ValueError(f"{path}: no column {looked_for}, it has {', '.join(names)}: set {option} to one of them")


def _is_image(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), pa.null())
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(metadata: dict[bytes, bytes] | None, label_column: str) -> list[str] | None:
    """Names of the ClassLabel feature that the hub writes into the schema."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):  # no metadata, or plain integers
        return None
    return [str(name) for name in names] or None


def _read(table: Table) -> ImageSet:
    from tqdm import tqdm

    images: NDArray[np.uint8] | None = None
    labels = np.empty(table.rows, dtype=np.int64)
    rows = enumerate(tqdm(_rows(table), total=table.rows, desc=table.files[0].name, unit="img", disable=None))
    for i, (where, image, label) in rows:
        if images is None:
            images = np.empty((table.rows, *image.shape), dtype=np.uint8)  # (N, C, H, W)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"{where}: the image is (C, H, W) {image.shape}, those before {images.shape[1:]}: all must have one size and mode; "
                "resize them and use source image_folder"
            )
        if label is None or label < 0 or (table.classes is not None and label >= len(table.classes)):
            last = "" if table.classes is None else len(table.classes) - 1
            raise ValueError(f"{where}: {table.label_column} is {label}, must be in 0..{last}: choose another label_column or file")
        images[i], labels[i] = image, label
    assert images is not None  # _inspect refuses a table without rows
    return ImageSet(images, labels)


def _rows(table: Table) -> Iterator[tuple[str, NDArray[np.uint8], int | None]]:
    """-> where it stands, image (C, H, W), label for each row of all files in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in table.files:
        start = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH, columns=[table.image_column, table.label_column]):
                    encoded, labels = batch.column(table.image_column), batch.column(table.label_column).to_pylist()
                    if pa.types.is_struct(encoded.type):
                        encoded = encoded.flatten()[encoded.type.get_field_index("bytes")]
                    for i, (image, label) in enumerate(zip(encoded.to_pylist(), labels, strict=True), start):
                        where = f"{path}, row {i}"
                        yield where, _decode(where, image), label  # threads would cost more than they save on small images
                    start += len(labels)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(_damaged(path, error)) from error


def _decode(where: str, encoded: bytes | None) -> NDArray[np.uint8]:
    """where, encoded image -> (C, H, W) uint8."""
    from PIL import Image

    if encoded is None:
        raise ValueError(f"{where}: holds no image bytes: only images inside the file can be read")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert(MODES[image.mode]), dtype=np.uint8)
    except KeyError as error:
        raise ValueError(f"{where}: image mode {error} cannot be read, only {', '.join(MODES)}: convert the images") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(f"{where}: the image cannot be decoded ({error}): fetch the file again") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is cut off, damaged or not parquet ({error}): delete it and fetch it again"


def _label_names(parts: list[ImageSet]) -> list[str]:
    labels = np.unique(np.concatenate([part.labels for part in parts]))
    if len(labels) != labels[-1] + 1:
        raise ValueError(
            "the files name no classes, so labels must be 0..K-1 without gaps, "
            f"got {len(labels)} different ones from {labels[0]} to {labels[-1]}: choose another label_column or renumber them"
        )
    return [str(label) for label in labels]
