"""What earlier stages left, read with its checksums: a damaged file is one error that says what to do."""

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.runtime.sums import read_whole

TEXT = (  # columns of tables that are text, whatever stands in them
    *("dataset", "method", "label", "key", "group", "attack", "suite", "metric", "setting", "source", "target", "stop", "layer"),
    *("status", "note", "confirmed", "check", "unit", "what", "other", "statistic", "network", "device"),
)
CSV: dict[str, Any] = {"dtype": dict.fromkeys(TEXT, str), "keep_default_na": False, "na_values": [""]}  # NA and 007 are names


def read_rows(path: Path, columns: Sequence[str], filters: list[tuple[str, str, Any]] | None = None) -> pd.DataFrame:
    """A .parquet file. Raises ValueError for a damaged one."""
    try:
        return pd.read_parquet(path, columns=[*columns], filters=filters, page_checksum_verification=True)
    except Exception as error:  # Arrow and pandas raise what they like, by the kind of damage
        raise damaged(path, error) from error


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, all where none is named. Raises ValueError for a damaged one, and where one is missing."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [f"{name}.npy" for name in names] or archive.namelist()
            whole = {name: io.BytesIO(archive.read(name)) for name in members}  # to the end, where zipfile checks the checksum
        return {name.removesuffix(".npy"): np.lib.format.read_array(content, allow_pickle=False) for name, content in whole.items()}
    except Exception as error:  # zipfile and NumPy do so too
        raise damaged(path, error) from error


def read_record(path: Path) -> dict[str, Any]:
    """A .json file of names and values. Raises ValueError for a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(record, dict):
        raise damaged(path, ValueError("no names in it"))
    return record


def read_lines(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A .csv file of a computing stage. Raises ValueError where it cannot be read, or one of the columns or a value is missing."""
    try:
        table: pd.DataFrame = pd.read_csv(path, **CSV)
    except Exception as error:  # pandas too
        raise damaged(path, error) from error
    if lacking := {*columns} - {*table}:
        raise damaged(path, ValueError(f"it lacks {min(lacking)}"))
    if table.isna().any(axis=None):
        raise damaged(path, ValueError("a value is missing"))
    return table


def read_text(path: Path) -> str:
    """A file of stage tables. Raises ValueError where it is not the one that the stage wrote."""
    try:
        return read_whole(path, path.parent)
    except ValueError as error:
        advice = "run `dvc repro tables`, after `git checkout` where git has it"
        raise ValueError(f"{path} is damaged or changed ({error}); {advice}") from error


def read_table(path: Path) -> pd.DataFrame:
    """A .csv file of stage tables, as `read_text`; an empty cell is missing."""
    table: pd.DataFrame = pd.read_csv(io.StringIO(read_text(path)), **CSV)
    return table


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise for a file, because of `error`."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(f"{path} is damaged ({reason}); delete it and run `dvc checkout` or `dvc repro`")
