"""The hcp tables from a made tree of outcomes, against values worked by hand; published.csv against the papers' text."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from made_run import made_item, made_paper, make_run, outcome_rows, run_stage
from scipy.stats import binomtest

from pipeline.reporting.hcp.markdown import hcp_table_markdown
from pipeline.reporting.hcp.tables import METHODS as PAPER_METHODS
from pipeline.reporting.hcp.tables import hcp_cells, hcp_tables
from pipeline.reporting.markdown import schedule_text
from pipeline.reporting.outcomes import in_order, load_cells
from pipeline.reporting.published import NAMES, load_published, paper_rows, published_epochs, published_value
from pipeline.reporting.run import Dataset, read_run, run_from

N = 10
PUBLISHED = load_published()
METHODS = ["softmax_fs", "mine", "hcp", "at", "hcp_m_p"]
PAPER = made_paper(
    {method: "" if method == "mine" else method for method in METHODS},
    {"hcp": "HCP (SM)", "at": "AT (SM)", "softmax_fs": "SM (FS)"},
)
DATASETS = {  # table_eps counts on digits alone: cifar10 is in the paper's tables
    "cifar10": Dataset([0.03, 0.1], [], [0.1], table_eps=0.1, table_c=0.1, headline_eps=0.1, epochs={}),
    "digits": Dataset([0.05, 0.1], [], [0.1], table_eps=0.1, table_c=0.1, headline_eps=0.05, epochs={}),
}
# right answers of 10 for (attack, eps), one number a seed; the other models answer half of everything right
HCP_CIFAR = {
    ("clean", 0.0): (9, 10),
    ("fgsm", 0.03): (7, 7),
    ("bim", 0.03): (5, 6),
    ("pgd", 0.03): (4, 5),
    ("fgsm", 0.1): (3, 3),
    ("bim", 0.1): (0, 0),
    ("pgd", 0.1): (1, 0),
}


def write_model(folder: Path, right: dict[tuple[str, float], int], noise: list[float], resisted: int = 0) -> None:
    folder.mkdir(parents=True)
    frames = [outcome_rows(attack, eps, n, N, eps**2) for (attack, eps), n in right.items()]
    frames += [outcome_rows("noise_sample", 5.0, resisted, N, np.array(noise))]
    frames += [outcome_rows("noise_batch", 5.0, 0, N, 2 * np.array(noise))]
    pd.concat(frames).to_parquet(folder / "outcomes.parquet")


@pytest.fixture
def attacks(tmp_path: Path) -> Path:
    """data/attacks: cifar10 and digits, five methods, two seeds, and a folder of a method that was removed."""
    folder = tmp_path / "data" / "attacks"
    noise = [0.01 * (i + 1) for i in range(N)]  # mean 0.055, std 0.030277
    for dataset in DATASETS:
        for method in METHODS:
            for seed in (0, 1):
                eps = DATASETS[dataset].eps
                right = {("clean", 0.0): 5} | {(attack, e): 5 for attack in ("fgsm", "bim", "pgd") for e in eps}
                right |= {("cw", 0.1): 5, ("adaptive_bim", eps[0]): 4, ("pgd", 0.7): 1}  # not of the hcp paper
                if (dataset, method) == ("cifar10", "hcp"):
                    right |= {key: values[seed] for key, values in HCP_CIFAR.items()}
                write_model(
                    folder / dataset / method / str(seed),
                    right,
                    noise,
                    resisted=int((dataset, method, seed) == ("digits", "at", 1)),
                )
    (folder / "cifar10" / "removed" / "0").mkdir(parents=True)
    (folder / "cifar10" / "removed" / "0" / "outcomes.parquet").write_text("left over from a method that is no longer run")
    return folder


@pytest.fixture
def tables(attacks: Path) -> dict[int, pd.DataFrame]:
    cells = load_cells(attacks, datasets=list(DATASETS), methods=METHODS, seeds=[0, 1])
    return hcp_tables(cells, PAPER, PUBLISHED, DATASETS)


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, where
    return table.iloc[0]


def test_accuracy_interval_and_difference_equal_the_values_worked_by_hand(tables: dict[int, pd.DataFrame]) -> None:
    row = only(tables[2], dataset="cifar10", method="hcp", attack="bim", eps=0.03)
    assert (row["measured"], row["published"], row["images"], row["seeds"]) == (55.0, 55.51, N, 2)
    assert row["difference"] == pytest.approx(-0.51)
    assert row["seed_std"] == pytest.approx(math.sqrt(50), abs=1e-4)  # of 50 and 60
    # Wilson at p = 0.55, n = 10 (one seed's images), z = 1.959964: centre (p + z^2 / 20) / (1 + z^2 / 10) = 0.536125,
    # half width z / (1 + z^2 / 10) * sqrt(p (1 - p) / 10 + z^2 / 400) = 0.262453
    assert row["ci95_low"] == pytest.approx(27.367, abs=1e-2)
    assert row["ci95_high"] == pytest.approx(79.858, abs=1e-2)
    assert (row["metric"], row["label"], pd.isna(row["std"])) == ("accuracy", "HCP (SM)", True)


def test_interval_of_a_whole_number_of_images_equals_scipy(attacks: Path) -> None:
    cells = load_cells(attacks, datasets=["cifar10"], methods=["hcp"], seeds=[0])
    tables = hcp_tables(cells, made_paper({"hcp": "hcp"}), PUBLISHED, DATASETS)
    row = only(tables[1], dataset="cifar10", method="hcp")
    expected = binomtest(9, N).proportion_ci(method="wilson")
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-4)
    assert pd.isna(row["seed_std"])


def test_published_values_join_only_where_data_set_attack_and_eps_are_equal(tables: dict[int, pd.DataFrame]) -> None:
    table = tables[2]
    assert pd.isna(only(table, dataset="cifar10", method="hcp", attack="pgd", eps=0.03)["published"])
    assert table.loc[table["dataset"] == "digits", ["published", "difference"]].isna().all(axis=None)
    svhn = table[table["dataset"] == "svhn"]
    assert len(svhn) == 18
    assert svhn["measured"].isna().all()
    assert svhn["images"].isna().all()
    assert only(svhn, method="hcp", attack="mim")["published"] == 74.10
    assert only(svhn, key="hcp_fs", attack="mim")["method"] == ""  # not in the run
    mim = only(table, dataset="cifar10", method="hcp", attack="mim", eps=0.03)  # published, but MIM was not run
    assert (mim["published"], pd.isna(mim["measured"])) == (57.57, True)
    measured = len(METHODS) * 3 * (1 + 2)  # three attacks at the table's eps on cifar10, at both on digits
    assert len(table) == measured + 54 - 2 * 3  # three methods of the paper were run, FGSM and BIM on cifar10


def test_table2_takes_the_papers_eps_and_all_where_the_paper_has_none(tables: dict[int, pd.DataFrame]) -> None:
    rows = tables[2][tables[2]["measured"].notna()]
    eps = rows.groupby(["dataset", "attack"])["eps"].agg(set).to_dict()
    assert eps == {(d, a): {0.03} if d == "cifar10" else {0.05, 0.1} for d in DATASETS for a in ("fgsm", "bim", "pgd")}


def test_methods_come_in_the_papers_order_others_in_that_of_the_run_and_removed_ones_not(tables: dict[int, pd.DataFrame]) -> None:
    digits = tables[1][tables[1]["dataset"] == "digits"]
    assert list(digits["method"]) == ["softmax_fs", "at", "hcp", "hcp_m_p", "mine"]
    assert list(digits["label"])[-1] == "mine"
    assert not any((table["method"] == "removed").any() for table in tables.values())
    assert list(dict.fromkeys(tables[4].query("dataset == 'cifar10'")["key"])) == [
        "hcp_m_p",
        "hcp_m_np",
        "hcp_p_np",
        "hcp",
        "at",
        "hcp_at",
    ]
    assert in_order(["new", "hcp", "new", "at"], ["at", "center", "hcp"]) == ["at", "hcp", "new"]


def test_rows_follow_papers_and_published(attacks: Path) -> None:
    item = made_item(METHODS, seeds=[0, 1])
    item["methods"]["at"]["papers"] = ["pcl"]
    item["methods"]["mine"] |= {"published": "hcp_fs", "label": "Mine"}
    item["methods"]["hcp_m_p"] |= {"published": None, "label": "HCP M+P"}
    paper = paper_rows(run_from(item), "hcp")
    assert paper.keys == {"softmax_fs": "softmax_fs", "mine": "hcp_fs", "hcp": "hcp", "hcp_m_p": ""}
    assert (paper.method("hcp_fs"), paper.method("hcp_m_p"), paper.method("at")) == ("mine", None, None)
    cells = load_cells(attacks, datasets=["cifar10"], methods=METHODS, seeds=[0, 1])
    table = hcp_tables(cells, paper, PUBLISHED, DATASETS)[1]
    own = table[table["measured"].notna()]
    assert list(zip(own["method"], own["published"].fillna(-1), strict=True)) == [
        ("softmax_fs", 93.36),
        ("hcp", 93.31),
        ("mine", published_value(PUBLISHED, paper="hcp", table="1", dataset="cifar10", key="hcp_fs")),
        ("hcp_m_p", -1),
    ]
    unclaimed = only(tables_of(table, "cifar10"), key="at")
    assert (unclaimed["method"], unclaimed["label"]) == ("", "AT (SM) (paper)")  # the run has a method of that label
    assert set(NAMES) >= set(PUBLISHED["key"].dropna())


def tables_of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table["dataset"] == dataset]


def test_noise_equals_the_values_worked_by_hand(tables: dict[int, pd.DataFrame]) -> None:
    row = only(tables[3], dataset="cifar10", method="hcp", stop="batch")
    assert row["measured"] == pytest.approx(0.11)
    assert row["std"] == pytest.approx(2 * 0.0302765, abs=1e-6)  # sqrt(82.5 / 9) / 100, twice
    assert pd.isna(row["ci95_low"])  # a batch is one experiment
    assert pd.isna(row["ci95_high"])
    single = only(tables[3], dataset="cifar10", method="hcp", stop="sample")
    assert single["ci95_high"] - single["measured"] == pytest.approx(1.96 * 0.0302765 / math.sqrt(10), abs=1e-6)
    assert (row["published"], row["published_std"], row["fooled"]) == (0.19, 0.052, 100)
    assert row["difference"] == pytest.approx(-0.08)
    assert pd.isna(only(tables[3], dataset="cifar10", method="hcp", stop="sample")["published"])
    assert only(tables[3], dataset="digits", method="at", stop="sample")["fooled"] == 95.0  # one of ten in one of two seeds


def test_ablation_holds_clean_and_bim_at_the_eps_of_its_table(tables: dict[int, pd.DataFrame]) -> None:
    rows = tables[4][tables[4]["measured"].notna()]
    assert set(zip(rows["dataset"], rows["attack"], rows["eps"], strict=True)) == {
        *(("cifar10", "clean", 0.0), ("cifar10", "bim", 0.03), ("digits", "clean", 0.0), ("digits", "bim", 0.1))
    }
    assert only(rows, dataset="cifar10", method="hcp_m_p", attack="bim")["published"] == 45.03
    assert set(rows["method"]) == {"hcp", "at", "hcp_m_p"}


def test_markdown_shows_measured_interval_published_and_bolds_the_best(tables: dict[int, pd.DataFrame]) -> None:
    text = hcp_table_markdown(2, tables[2], "Epochs: few.")
    assert "Measured: cifar10 (10 test images), digits (10 test images); 2 seeds" in text
    section = text.split("### cifar10, eps 0.03")[1].split("###")[0]
    assert "**70.0 ± 0.0 [39.7, 89.2] (paper 60.28, +9.7)**" in section
    assert "50.0 ± 0.0 [23.7, 76.3] (paper 48.66, +1.3)" in section  # AT under BIM
    assert section.count("**") == 2 * (1 + 1 + 4)  # HCP under FGSM and BIM; under PGD the four others tie above it
    assert "**" not in text.split("### digits, eps 0.1")[1].split("###")[0]  # all tie
    rest = text.split("### Published, not measured here")[1]
    assert "svhn FGSM, eps 0.03" in rest
    assert "90.23" in rest
    assert "**" not in rest
    noise = hcp_table_markdown(3, tables[3], "Epochs: few.")
    assert "≥ 0.0550 ± 0.0303, 95 % fooled" in noise
    assert "0.1100 ± 0.0606, 100 % fooled (paper 0.19 ± 0.052, -0.080)" in noise


def test_hcp_tables_leave_out_what_belongs_to_the_other_paper(attacks: Path) -> None:
    cells = load_cells(attacks, datasets=list(DATASETS), methods=METHODS, seeds=[0])
    own = hcp_cells(cells, made_paper({"hcp": "hcp", "mine": ""}), PUBLISHED, DATASETS)
    assert set(own["method"]) == {"hcp", "mine"}
    assert set(own["attack"]) == {"clean", "fgsm", "bim", "pgd", "noise_sample", "noise_batch"}
    assert own.groupby("dataset")["eps"].agg(set).to_dict() == {"cifar10": {0.0, 0.03, 5.0}, "digits": {0.0, 0.05, 0.1, 5.0}}


def test_schedule_names_equal_lengths_once_and_says_when_reduced() -> None:
    paper = published_epochs(load_published(), "hcp")
    assert paper == {"pretrain": {"all": 200}, "train": {"all": 400}}
    same, more = {"pretrain": 20, "train": 40}, {"pretrain": 20, "train": 40, "mixed": 9}
    short = schedule_text({"a": same, "b": more, "c": dict(same)}, paper)
    ours = "20 pretrain, 40 train (a, c); 20 pretrain, 40 train, 9 mixed (b)"
    assert f"Epochs: {ours}; the paper 200 pretrain, 400 train: reduced" in short
    assert "the paper's length" in schedule_text({"a": {"pretrain": 200, "train": 400}}, paper)


def test_pcl_schedule_is_that_of_the_data_set_or_the_shortest() -> None:
    paper = published_epochs(load_published(), "pcl")
    theirs = "the paper 50 (mnist, fashion_mnist) or 200 (cifar10, cifar100, svhn) pretrain, 300 train"
    assert f"{theirs}: the paper's length" in schedule_text({"digits": {"pretrain": 50, "train": 300}}, paper)
    assert f"{theirs}: reduced" in schedule_text({"cifar10": {"pretrain": 50, "train": 300}}, paper)


def test_missing_and_unequal_outcomes_are_reported(attacks: Path) -> None:
    with pytest.raises(ValueError, match=r"cifar10/pcl/0 has no outcomes.parquet; run `dvc repro`"):
        load_cells(attacks, datasets=["cifar10"], methods=["pcl"], seeds=[0])
    path = attacks / "cifar10" / "at" / "1" / "outcomes.parquet"
    frame = pd.read_parquet(path)
    frame[frame["image"] < 5].to_parquet(path)
    with pytest.raises(ValueError, match="different numbers of images"):
        load_cells(attacks, datasets=["cifar10"], methods=["at"], seeds=[0, 1])


def test_published_csv_holds_the_papers_figures() -> None:
    published = load_published()
    assert dict(published["paper"].value_counts()) == {"pcl": 628, "hcp": 133, "robustbench": 2}  # 751 + 8 epochs + 2 of C&W + 2
    assert published_value(published, paper="hcp", table="1", dataset="cifar100", key="hcp", metric="accuracy") == 72.83
    assert published_value(published, table="2", dataset="cifar100", key="hcp_fs", attack="mim") == 18.3
    assert published_value(published, table="3", dataset="svhn", key="center") == 0.21
    assert published_value(published, table="4", dataset="svhn", key="hcp_m_np", attack="bim") == 78.04
    assert published_value(published, table="4", dataset="cifar100", key="hcp_at", attack="clean") == 56.08
    assert published_value(published, paper="robustbench", attack="autoattack") == 0.28
    keyed = published[(published["paper"] == "hcp") & published["table"].isin(list("1234"))]
    assert not keyed.duplicated(["table", "dataset", "key", "attack"]).any()
    assert set(keyed["key"]) == set(PAPER_METHODS)
    assert published[(published["paper"] == "pcl") & (published["metric"] == "accuracy")]["key"].notna().all()
    assert published_value(published, paper="pcl", table="6", key="madry", attack="pgd", budget=0.15) == 93.7
    assert published_value(published, table="13", key="madry", setting="transfer-from-at-kurakin") == 49.8
    assert published_value(published, table="11", key="pcl", attack="pgd") == 20.7  # layers 4+5
    assert published_value(published, table="9", dataset="cifar100", key="center_deep", attack="clean") == 67.8
    with pytest.raises(ValueError, match="expected one"):
        published_value(published, paper="hcp")


def test_no_published_figure_is_typed_in_code() -> None:
    values = {f"{v:g}" for v in load_published()["value"] if v >= 1 and v != int(v)}
    values = {text for text in values if len(text.split(".")[1]) >= 2 or float(text) >= 10}
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        typed = {f"{float(n):g}" for n in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", path.read_text())}
        assert not typed & values, f"{path.relative_to(ROOT)} has {typed & values}; figures of the papers belong in published.csv"


def test_stage_reports_a_missing_folder_in_one_line(tmp_path: Path) -> None:
    make_run(tmp_path, 20, made_item(["at", "hcp"]))
    (tmp_path / "data/attacks/digits/at/0/outcomes.parquet").unlink()
    done = run_stage("tables", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "data/attacks/digits/at/0 has no outcomes.parquet; run `dvc repro`" in done.stderr


def test_without_items_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*tables.yaml; run `dvc repro items`"):
        read_run(tmp_path / "data/items/tables.yaml")
