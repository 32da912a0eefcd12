"""Revisions by what differs, and two runs image by image."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting.compare import paired_table, revisions_table, verdict_on


def row(rev: str, experiment: str | None, **values: Any) -> dict[str, Any]:
    return {
        "Experiment": experiment,
        "rev": rev,
        "Created": None,
        **{name.replace("__", "."): value for name, value in values.items()},
    }


ROWS = [
    row("workspace", None, methods__hcp__loss__e=1, methods__hcp__layers=["a"], digits__hcp__clean=90.0, digits__hcp__robust=5.0),
    row("main", None, methods__hcp__loss__e=1, methods__hcp__layers=["a"], digits__hcp__clean=90.0, digits__hcp__robust=5.0),
    row("1234", "worse", methods__hcp__loss__e=2, methods__hcp__layers=["a"], digits__hcp__clean=89.0, digits__hcp__robust=1.0),
    row("5678", "best", methods__hcp__loss__e=3, methods__hcp__layers=["a"], digits__hcp__clean=90.0, digits__hcp__robust="None"),
    row("9012", "good", methods__hcp__loss__e=4, methods__hcp__layers=["a"], digits__hcp__clean=90.0, digits__hcp__robust=7.0),
]


def test_what_differs_is_shown_and_experiments_are_sorted() -> None:
    table, params, figures = revisions_table(ROWS, ["methods"], 120)
    assert list(table.columns) == ["revision", "methods.hcp.loss.e", "digits.hcp.robust", "digits.hcp.clean"]
    assert table["revision"].tolist() == ["workspace", "main", "good", "worse", "best"]  # the last has no figure
    assert (params, figures) == (0, 0)


@pytest.mark.parametrize("width", [120, 80, 60, 20])
def test_it_is_no_wider_than_asked_and_says_what_it_leaves_out(width: int) -> None:
    table, params, figures = revisions_table(ROWS, ["methods"], width)
    assert len(table.to_markdown(index=False, tablefmt="simple").splitlines()[1]) <= width
    assert params + figures == 3 - (table.shape[1] - 1)


def write_run(folder: Path, method: str, seed: int, correct: np.ndarray, labels: int = 10, eps: float = 0.1) -> None:
    images = np.arange(len(correct))
    frames = [
        pd.DataFrame({"image": images, "label": images % labels, "attack": attack, "eps": strength, "correct": right})
        for attack, strength, right in (
            ("clean", 0.0, np.ones_like(correct)),
            ("autoattack", eps, correct),
            ("adaptive", eps, correct),
        )
    ]
    target = folder / "data/verdict/digits" / method / str(seed) / "outcomes.parquet"
    target.parent.mkdir(parents=True)
    pd.concat(frames).to_parquet(target, write_page_checksum=True)


def test_two_runs_image_by_image(tmp_path: Path) -> None:
    """8 images that only the first has right and 1 that only the second has: p is 2 (1 + 9) / 512 by McNemar's exact test, and the
    smaller of the two that differ takes Holm's factor of 2."""
    first = np.arange(40) < 20
    second = first.copy()
    second[:8], second[30] = False, True
    write_run(tmp_path / "a", "hcp", 0, first)
    write_run(tmp_path / "b", "hcp", 0, second)
    write_run(tmp_path / "b", "at", 0, second)  # in one run only
    table = paired_table(tmp_path / "a", tmp_path / "b").set_index("attack")
    assert table.loc["autoattack", ["first", "second", "only first", "only second"]].tolist() == [50.0, 32.5, 8, 1]
    assert table.loc["autoattack", "p"] == pytest.approx(2 * 20 / 512)
    assert table.loc["clean", "p"] == 1
    assert table["method"].unique().tolist() == ["hcp"]


def test_a_difference_counts_only_beyond_what_another_seed_gives(tmp_path: Path) -> None:
    rights = {"a": (60, 30), "b": (20, 22)}  # of 100 images, by seed
    for run, counts in rights.items():
        for seed, count in enumerate(counts):
            write_run(tmp_path / run, "hcp", seed, np.arange(100) < count)
    table = paired_table(tmp_path / "a", tmp_path / "b")
    rows = table[table["attack"] == "autoattack"].set_index("seed")
    assert (rows["between seeds"] == 30).all()
    assert [verdict_on(rows.loc[seed]) for seed in (0, 1)] == ["differs", "within the spread between seeds"]
    unknown = rows.loc[0].copy()
    unknown["between seeds"] = np.nan
    assert verdict_on(unknown) == "differs on these images; spread between seeds unknown"
    unknown["p"] = 0.06
    assert verdict_on(unknown) == "no difference beyond chance"


def test_runs_on_other_images_or_without_a_common_model_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "hcp", 0, np.ones(20, dtype=bool))
    write_run(tmp_path / "b", "hcp", 0, np.ones(20, dtype=bool), labels=9)
    with pytest.raises(ValueError, match="different test images"):
        paired_table(tmp_path / "a", tmp_path / "b")
    write_run(tmp_path / "c", "at", 0, np.ones(20, dtype=bool))
    with pytest.raises(ValueError, match="no model in common"):
        paired_table(tmp_path / "a", tmp_path / "c")
    with pytest.raises(ValueError, match="name the folder that has data/ in it"):
        paired_table(tmp_path / "a", tmp_path / "c/data")
    write_run(tmp_path / "d", "hcp", 0, np.ones(20, dtype=bool), eps=0.15)
    with pytest.raises(ValueError, match=r"has autoattack at eps 0.1, .*autoattack at eps 0.15: run both with the same"):
        paired_table(tmp_path / "a", tmp_path / "d")
