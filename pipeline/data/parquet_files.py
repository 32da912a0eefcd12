"""Source parquet: image data sets in the layout of the Hugging Face hub, from files at hand."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from pipeline.data.checks import check_classes
from pipeline.data.checksums import verify_checksums
from pipeline.data.decoding import Channels, decode, stack
from pipeline.data.image_set import ImageSet
from pipeline.data.shards import find_shards, target

BATCH = 1000  # rows held in encoded form at a time


class Table(NamedTuple):
    """What the footers of a split's files say. classes: None where the schema names none."""

    files: list[Path]
    rows: int
    image_column: str
    label_column: str
    classes: list[str] | None


def parquet(
    *,
    train: str,
    test: str,
    image_column: str | None,
    label_column: str | None,
    sha256sums: str | None,
    size: Annotated[int, Ge(1)] | None = None,
    channels: Channels | None = None,
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Reads parquet files -> train, test, classes; images (N, channels, H, W), read as `decode` says.

    `train`, `test`: a file, a folder or a glob, as `find_shards` says. Columns: null takes image or img (a struct with `bytes`, or
    bytes) and label or fine_label (integers). `sha256sums`: a list as sha256sum writes it, paths relative to it; each file read
    must be in it and agree. `size` null: all images must have one size. `channels` null: 3 if any image has colour. Class names
    come from the Hugging Face metadata of the schema, else they are the labels. Raises ValueError that says what to do for any
    file, column, row or label that is not as this says.
    """
    files = {"train": find_shards(train, "train"), "test": find_shards(test, "test")}
    targets = {target(file) for file in files["train"]}
    if both := [str(file) for file in files["test"] if target(file) in targets]:
        raise ValueError(f"{both[0]} is in train and in test: name different files")
    if sha256sums is not None:
        verify_checksums(Path(sha256sums), files["train"] + files["test"])
    tables = [_inspect(files[split], image_column, label_column) for split in ("train", "test")]
    if tables[0].classes != tables[1].classes:
        raise ValueError(f"train and test must have the same class names, got {tables[0].classes} and {tables[1].classes}")
    labels = [_labels(table) for table in tables]
    classes = tables[0].classes or _label_names(labels)
    check_classes(train, labels[0], labels[1], classes)
    rows = chain.from_iterable(_images(table, size, channels) for table in tables)
    images, count = stack(rows, tables[0].rows + tables[1].rows), tables[0].rows  # one pass names all that is wrong
    return ImageSet(images[:count], labels[0]), ImageSet(images[count:], labels[1]), classes


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
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(is_bytes(kind) for is_bytes in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _class_names(metadata: dict[bytes, bytes] | None, label_column: str) -> list[str] | None:
    """Names of the ClassLabel feature that the hub writes into the schema."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):  # no metadata, or plain integers
        return None
    return [str(name) for name in names] or None


def _labels(table: Table) -> NDArray[np.int64]:
    labels = []
    for where, label in _rows(table, table.label_column):
        if label is None or label < 0 or (table.classes is not None and label >= len(table.classes)):
            last = "" if table.classes is None else len(table.classes) - 1
            raise ValueError(f"{where}: {table.label_column} is {label}, must be in 0..{last}: choose another label_column or file")
        labels.append(label)
    return np.array(labels, dtype=np.int64)


def _images(table: Table, size: int | None, channels: Channels | None) -> Iterator[tuple[str, NDArray[np.uint8] | ValueError]]:
    """-> where it stands, image (C, H, W) or what is wrong with it, for each row of all files in order."""
    from tqdm import tqdm

    rows = _rows(table, table.image_column)
    for where, value in tqdm(rows, total=table.rows, desc=table.files[0].name, unit="img", disable=None):
        encoded = value["bytes"] if isinstance(value, dict) else value
        try:
            if encoded is None:
                raise ValueError("holds no image bytes, only images inside the file can be read")
            yield where, decode(encoded, channels=channels, size=size)  # threads would cost more than they save on small images
        except ValueError as error:
            yield where, error


def _rows(table: Table, column: str) -> Iterator[tuple[str, Any]]:
    """-> where it stands, value for each row of all files in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in table.files:
        start = 0
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:  # where the writer has stored any
                for group in range(file.num_row_groups):  # Arrow cannot read a dictionary in a struct across two
                    for batch in file.iter_batches(BATCH, row_groups=[group], columns=[column]):
                        for i, value in enumerate(batch.column(0).to_pylist(), start):
                            yield f"{path}, row {i}", value
                        start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is cut off, damaged or not parquet ({error}): delete it and fetch it again"


def _label_names(parts: list[NDArray[np.int64]]) -> list[str]:
    labels = np.unique(np.concatenate(parts))
    if len(labels) != labels[-1] + 1:
        raise ValueError(
            "the files name no classes, so labels must be 0..K-1 without gaps, "
            f"got {len(labels)} different ones from {labels[0]} to {labels[-1]}: choose another label_column or renumber them"
        )
    return [str(label) for label in labels]
