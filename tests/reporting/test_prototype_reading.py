"""The table of the prototypes' second reading, from outcomes that are known."""

from pathlib import Path

import pandas as pd
import pytest
from made_run import write_prototypes

from pipeline.reporting.verdict.prototypes import COLUMNS, VALUES, figures, load_prototypes, prototypes_frame, prototypes_markdown


def made(folder: Path) -> tuple[dict[tuple[str, str], list[pd.DataFrame]], pd.DataFrame]:
    """What is read from two models with 100 images each, and the verdict on them."""
    for method, right, member in (("hcp", (96, 40, 10), (50, 80)), ("pcl", (98, 60, 0), None)):
        (folder / f"digits/{method}/0").mkdir(parents=True)
        write_prototypes(folder / f"digits/{method}/0", 100, right=right, member=member, eps=0.15)
    (folder / "digits/softmax_fs/0").mkdir(parents=True)
    softmax = {("hcp", "clean"): 97.0, ("hcp", "robust"): 12.0, ("pcl", "clean"): 97.0, ("pcl", "robust"): 0.0}
    verdicts = pd.DataFrame(
        [("digits", m, a, v) for (m, a), v in softmax.items()], columns=["dataset", "method", "attack", "measured"]
    )
    return load_prototypes(folder, datasets=["digits"], methods=["softmax_fs", "hcp", "pcl"], seeds=[0]), verdicts


def test_figures_by_hand(tmp_path: Path) -> None:
    found, _ = made(tmp_path)
    assert list(found) == [("digits", "hcp"), ("digits", "pcl")]
    of_hcp = figures(found["digits", "hcp"][0])
    assert of_hcp == pytest.approx(
        {
            **{"nearest": 96, "nearest_logits": 40, "nearest_robust": 10},
            **{"coverage": 50, "right": 100, "coverage_attacked": 80, "right_attacked": 0, "broken_logits": 40, "broken": 80},
        }
    )
    assert figures(found["digits", "pcl"][0]) == pytest.approx({"nearest": 98, "nearest_logits": 60, "nearest_robust": 0})


def test_where_nothing_is_accepted_or_left_to_attack(tmp_path: Path) -> None:
    write_prototypes(tmp_path, 100, right=(0, 0, 0), member=(0, 0), eps=0.1)
    rows = pd.read_parquet(tmp_path / "prototypes.parquet")
    rows = rows[~rows["attack"].isin(("nearest/logits", "nearest/ratio"))]  # every image was wrong before
    rows = rows[~rows["attack"].isin(("membership/logits", "membership/any", "membership"))]
    found = figures(rows)
    assert found["nearest_logits"] == found["nearest_robust"] == found["coverage"] == 0
    assert pd.isna(found["right"])
    assert "broken" not in found


def test_table_and_text(tmp_path: Path) -> None:
    found, verdicts = made(tmp_path)
    table = prototypes_frame(found, verdicts, {"hcp": "HCP (SM)", "pcl": "PCL (SM)"})
    assert list(table.columns) == COLUMNS
    assert table["softmax_robust"].tolist() == [12, 0]
    assert table.loc[1, VALUES[5:]].isna().all()
    text = prototypes_markdown(table)
    assert "Robust accuracy by it, under an attack on the distances alone: 0.0 (PCL (SM)) to 10.0 (HCP (SM)) %." in text
    assert "accepts 50.0 to 50.0 % of the clean images, less than 50 % on 0 of 1 models." in text
    assert "makes 80.0 to 80.0 % of the images wrong and accepted" in text
    assert "at most ± 9.8" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["HCP (SM)", "layer5", "97.0", "96.0", "12.0", "40.0", "10.0"] in lines
    assert ["HCP (SM)", "layer5", "50.0", "100.0", "80.0", "0.0", "40.0", "80.0"] in lines
    table.to_csv(tmp_path / "a.csv", index=False)
    assert prototypes_markdown(pd.read_csv(tmp_path / "a.csv")) == text


def test_a_run_without_prototypes_says_so(tmp_path: Path) -> None:
    table = prototypes_frame({}, pd.DataFrame(columns=["dataset", "method", "attack", "measured"]), {})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert "No method of the run has class centres." in prototypes_markdown(pd.read_csv(tmp_path / "a.csv"))
