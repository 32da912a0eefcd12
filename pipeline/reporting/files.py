"""Tables and arrays that the computing stages left, read with their checksums: a damaged file is one error that says what to do."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TEXT = (  # columns of tables that are text, whatever stands in them
    *("dataset", "method", "label", "key", "group", "attack", "suite", "metric", "setting", "source", "target", "stop", "layer"),
    *("status", "note", "confirmed", "check", "unit", "what", "other", "statistic", "network", "device"),
)


def read_table(path: Path) -> pd.DataFrame:
    """A .csv file of ours, in which NA, None or 007 are names as any; an empty cell is missing."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def read_rows(path: Path, columns: Sequence[str], filters: list[tuple[str, str, Any]] | None = None) -> pd.DataFrame:
    """A .parquet file. Raises ValueError for a damaged one."""
    try:
        return pd.read_parquet(path, columns=[*columns], filters=filters, page_checksum_verification=True)
    except Exception as error:  # Arrow and pandas raise what they like, by the kind of damage
        raise _damaged(path, error) from error


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, all where none is named. Raises ValueError for a damaged one, and where one is missing."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [f"{name}.npy" for name in names] or archive.namelist()
            whole = {name: io.BytesIO(archive.read(name)) for name in members}  # to the end, where zipfile checks the checksum
        return {name.removesuffix(".npy"): np.lib.format.read_array(content, allow_pickle=False) for name, content in whole.items()}
    except Exception as error:  # zipfile and NumPy do so too
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(f"{path} is damaged ({reason}); delete it and run `dvc checkout` or `dvc repro`")
