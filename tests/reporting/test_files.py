"""Tables and arrays with a changed bit are refused in one line, or read the same."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damage import content_or_error, damaged

from pipeline.reporting.files import read_arrays, read_rows


def test_arrays_with_a_changed_bit(tmp_path: Path) -> None:
    path, good = tmp_path / "a.npz", {"layer5": np.random.default_rng(0).random((30, 8)), "layers": np.array(["layer5"])}
    np.savez(path, **good)
    refused = 0
    for what, content in damaged(path.read_bytes(), flips=500):
        path.write_bytes(content)
        found = content_or_error(partial(read_arrays, path, "layer5", "layers"))
        if isinstance(found, ValueError):
            refused += 1
            assert str(found).startswith(f"{path} is damaged"), what
            assert "\n" not in str(found), what
            continue
        assert all(np.array_equal(found[name], values) for name, values in good.items()), what
    assert refused > 400


def test_all_arrays_or_those_that_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.array("x"))
    assert list(read_arrays(tmp_path / "a.npz")) == ["a", "b"]
    assert read_arrays(tmp_path / "a.npz", "b")["b"] == "x"
    with pytest.raises(ValueError, match=r"a\.npz is damaged .*c\.npy"):
        read_arrays(tmp_path / "a.npz", "c")
    np.savez(tmp_path / "b.npz", a=np.array([{}]))
    with pytest.raises(ValueError, match=r"b\.npz is damaged"):
        read_arrays(tmp_path / "b.npz")


def test_rows_with_a_changed_bit(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a.parquet"
    good = pd.DataFrame({"attack": np.repeat(["pgd", "fgsm"], 3000), "correct": rng.random(6000) < 0.5, "mse": rng.random(6000)})
    good.to_parquet(path, index=False, write_page_checksum=True)
    refused = 0
    for what, content in damaged(path.read_bytes()):
        path.write_bytes(content)
        found = content_or_error(partial(read_rows, path, ["attack", "correct", "mse"]))
        if isinstance(found, ValueError):
            refused += 1
            assert str(found).startswith(f"{path} is damaged"), what
            assert "\n" not in str(found), what
            continue
        pd.testing.assert_frame_equal(found, good)
    assert refused > 150
