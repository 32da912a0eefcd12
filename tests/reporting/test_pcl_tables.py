"""The pcl tables, verdict and findings from made files, against values worked by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import made_item, made_paper, outcome_rows, write_cost, write_outcomes, write_transfer
from scipy.stats import binomtest

from pipeline.reporting.findings import FAILS, HOLDS, MISSING, OPEN, WEAK
from pipeline.reporting.markdown import grid
from pipeline.reporting.measurements import load_cost, load_transfer
from pipeline.reporting.outcomes import load_cells
from pipeline.reporting.pcl import findings as pcl_findings
from pipeline.reporting.pcl.cost import cost_markdown, cost_table
from pipeline.reporting.pcl.markdown import cw_text, pcl_table_markdown
from pipeline.reporting.pcl.tables import TABLES, pcl_cells, pcl_table, sweep_table
from pipeline.reporting.published import NAMES, load_published, paper_rows, pcl_published
from pipeline.reporting.run import Dataset, run_from
from pipeline.reporting.tables import at_strengths
from pipeline.reporting.verdict.status import papers_attack

PUBLISHED = load_published()
N, CW_N = 200, 50
DATASETS = {
    "cifar10": Dataset([0.02, 0.03], [1.0], [0.01, 0.1], table_eps=0.05, table_c=1.0, headline_eps=0.03, epochs={}),
    "digits": Dataset([0.05, 0.1], [], [1.0], table_eps=0.1, table_c=1.0, headline_eps=0.1, epochs={}),
}
LABELS = {"softmax_fs": "SM", "pcl_deep": "PCL", "pcl_at_pgd": "PCL*", "vgg": "VGG", "hcp": "HCP", "madry": "Madry"}
# right answers of 200 under PGD at the headline eps; under FGSM 20 more, under BIM and MIM as under PGD
PGD = {"softmax_fs": 2, "hcp": 30, "pcl_deep": 60, "pcl_at_pgd": 100, "madry": 90, "pcl_1": 10, "pcl_2": 10, "pcl": 40}


PAPER = made_paper({method: method for method in PGD if method != "hcp"} | {"vgg": "vgg"}, LABELS)


def counts(dataset: str, method: str, seed: int) -> dict[tuple[str, float], int]:
    own, right = DATASETS[dataset], PGD[method] + 2 * seed
    found = {("clean", 0.0): 21 if method == "pcl_1" else 190}
    for eps in own.eps:
        extra = 0 if eps == own.headline_eps else 40
        found |= {(attack, eps): right + extra for attack in ("bim", "mim", "pgd")} | {("fgsm", eps): right + extra + 20}
    if method in ("pcl_deep", "pcl_at_pgd", "hcp"):
        found |= {(f"adaptive_{attack}", own.headline_eps): right - 10 for attack in ("fgsm", "bim", "mim", "pgd")}
    if method in ("softmax_fs", "pcl_deep"):
        found |= {("cw", c): 10 + 5 * place for place, c in enumerate(own.c)}
        found |= {(attack, 1.0): 0 for attack in ("fgsm", "bim", "mim", "pgd")}  # the sweep
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for dataset, own in DATASETS.items():
        for method in PGD:
            for seed in (0, 1):
                write_outcomes(folder / "attacks" / dataset / method / str(seed), counts(dataset, method, seed), N, CW_N)
        path = folder / "attacks" / dataset / "hcp" / "0" / "outcomes.parquet"
        for name in ("noise_sample", "noise_batch"):
            pd.concat([pd.read_parquet(path), outcome_rows(name, 5.0, 0, N, 0.25)]).to_parquet(path)
        eps = own.headline_eps
        values = {("vgg", method, "pgd", eps): 10.0 + 10 * place for place, method in enumerate(PGD)}
        values |= {("vgg", "vgg", "pgd", eps): 1.0, ("pcl_at_pgd", "vgg", "pgd", eps): 45.0}
        values |= {
            ("pcl_at_pgd", "pcl_at_pgd", "pgd", eps): 50.0,
            ("vgg", "pcl_deep", "cw", 0.1 if dataset == "cifar10" else 1.0): 80.0,
        }
        for seed in (0, 1):
            write_transfer(folder / "transfer" / dataset / f"{seed}.csv", {k: v + 2 * seed for k, v in values.items()}, N)
    return folder


@pytest.fixture(scope="module")
def cells(data: Path) -> pd.DataFrame:
    return load_cells(data / "attacks", datasets=list(DATASETS), methods=list(PGD), seeds=[0, 1])


@pytest.fixture(scope="module")
def tables(data: Path, cells: pd.DataFrame) -> dict[int, pd.DataFrame]:
    both = pcl_cells(cells, load_transfer(data / "transfer", datasets=list(DATASETS), seeds=[0, 1]), PAPER)
    return {n: pcl_table(n, both, PAPER, PUBLISHED, DATASETS) for n in TABLES}


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, where
    return table.iloc[0]


def lines(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    part = text.split(f"{heading}\n")[1].split("\n#")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in [rows[0], *rows[2:]]]


def test_published_settings_come_from_the_papers_columns() -> None:
    three = pcl_published(PUBLISHED, 3)
    assert only(three, dataset="cifar10", key="pcl_at_pgd", setting="from vgg", attack="pgd")["published"] == 88.8
    four = pcl_published(PUBLISHED, 4)
    assert only(four, dataset="fashion_mnist", key="pcl_at_fgsm", setting="adaptive", attack="fgsm")["published"] == 53.3
    assert only(four, dataset="fashion_mnist", key="pcl_at_fgsm", setting="white-box", attack="fgsm")["published"] == 55.1
    assert only(four, dataset="cifar10", key="pcl_deep", attack="clean")["setting"] == "white-box"
    assert set(four["dataset"]) == {"cifar10", "fashion_mnist"}
    assert len(four) == 2 * 3 * (5 + 4)
    matrix = pcl_published(PUBLISHED, 13).pivot(index="setting", columns="key", values="published")
    assert np.diag(matrix.loc[[f"from {name}" for name in matrix.columns]]).tolist() == [43.7, 49.1, 0.0, 0.0]
    assert matrix.loc["from madry", "vgg_at_fgsm"] == 67.32  # the source in the line, the target in the column


def test_cell_equals_the_value_worked_by_hand(tables: dict[int, pd.DataFrame]) -> None:
    row = only(tables[3], dataset="cifar10", method="pcl_deep", setting="white-box", attack="pgd")
    assert (row["eps"], row["measured"], row["published"], row["images"], row["seeds"]) == (0.03, 30.5, 27.2, N, 2)  # 60, 62 of 200
    assert row["difference"] == pytest.approx(3.3)
    assert row["seed_std"] == pytest.approx(math.sqrt(0.5), abs=1e-4)  # of 30 and 31
    expected = binomtest(61, N).proportion_ci(method="wilson")
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-4)
    assert list(tables[3].columns)[:7] == ["table", "dataset", "setting", "method", "key", "label", "attack"]


def test_a_table_takes_the_strengths_of_its_published_rows(tables: dict[int, pd.DataFrame]) -> None:
    measured = {n: table[table["measured"].notna() & (table["dataset"] == "cifar10")] for n, table in tables.items()}
    assert set(measured[3]["eps"]) == {0.0, 0.03, 0.1}  # 0.1: C&W
    cw = measured[3][(measured[3]["attack"] == "cw") & (measured[3]["setting"] == "white-box")]
    assert set(zip(cw["method"], cw["eps"], cw["measured"], cw["images"], strict=True)) == {
        ("softmax_fs", 0.1, 30.0, CW_N),
        ("pcl_deep", 0.1, 30.0, CW_N),
    }
    five = measured[5].groupby("attack")["eps"].agg(set)
    assert five.to_dict() == {"clean": {0.0}, "cw": {0.01, 0.1}, "fgsm": {0.02}, "bim": {0.02}, "mim": {0.02}, "pgd": {0.02}}
    assert set(measured[11]["eps"]) == {0.0, 0.03}
    assert only(measured[5], method="pcl_deep", attack="pgd", eps=0.02)["published"] == 39.3
    assert measured[6].empty  # each data set is compared in one table
    assert measured[7].empty
    missing = only(tables[5], dataset="cifar10", key="pcl_deep", attack="fgsm", eps=0.04)
    assert (missing["published"], pd.isna(missing["measured"]), missing["method"]) == (56.3, True, "pcl_deep")
    assert not any((table["eps"] == 1.0).any() for n, table in tables.items() if n not in (3, 5, 6))  # the sweep; c of digits


def test_data_sets_that_a_table_lacks_have_all_strengths_or_one(tables: dict[int, pd.DataFrame]) -> None:
    digits = {n: table[table["measured"].notna() & (table["dataset"] == "digits")] for n, table in tables.items()}
    linf = {n: set(rows.loc[rows["attack"] == "pgd", "eps"]) for n, rows in digits.items()}
    one, none = (3, 4, 11, 13), (6, 7)  # where another table compares what no table has
    assert linf == {n: {0.1} if n in one else set() if n in none else {0.05, 0.1} for n in TABLES}


@pytest.mark.parametrize(
    ("number", "dataset", "wanted"),
    [
        (3, "cifar100", {"pgd": {0.03}, "cw": {0.1}}),
        (3, "mnist", {"fgsm": {0.3}, "cw": {10.0}}),
        (5, "cifar10", {"fgsm": {0.02, 0.04}, "bim": {0.01, 0.02}, "cw": {0.001, 0.01, 0.1}}),
        (6, "mnist", {"fgsm": {0.1, 0.2}, "pgd": {0.1, 0.15}, "cw": {0.1, 1.0, 10.0}}),
        (7, "cifar100", {"bim": {0.005, 0.01}}),
        (8, "svhn", {"pgd": {0.02}}),
    ],
)
def test_strengths_are_those_of_table_data_set_and_attack(number: int, dataset: str, wanted: dict[str, set[float]]) -> None:
    eps = [0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.1, 0.15, 0.2, 0.3, 1.0, 10.0]
    cells = pd.DataFrame([(dataset, attack, e) for attack in wanted for e in eps], columns=["dataset", "attack", "eps"])
    own = Dataset(eps, [], eps, table_eps=0.07, table_c=0.07, headline_eps=0.07, epochs={})
    shown = cells[at_strengths(cells, pcl_published(PUBLISHED, number), {dataset: own}, every=TABLES[number].every)]
    assert shown.groupby("attack")["eps"].agg(set).to_dict() == wanted


def test_eps_of_a_fraction_joins_what_the_paper_prints() -> None:
    eps = 8 / 255
    cells = pd.DataFrame({"dataset": ["cifar10"], "method": ["triplet"], "seed": [0], "attack": ["pgd"], "eps": [eps]})
    cells = cells.assign(images=N, accuracy=25.0, setting="white-box")
    table = pcl_table(9, cells, made_paper({"triplet": "triplet"}), PUBLISHED, DATASETS)
    assert only(table, dataset="cifar10", method="triplet", attack="pgd")["difference"] == pytest.approx(25 - 25.51)


def test_a_published_row_is_measured_by_the_method_that_claims_it(cells: pd.DataFrame) -> None:
    paper = made_paper({"pcl_deep": "", "hcp": "pcl_deep"}, {"pcl_deep": "mine", "hcp": "theirs"})
    table = pcl_table(11, cells.assign(setting="white-box"), paper, PUBLISHED, DATASETS)
    row = only(table, dataset="cifar10", key="pcl_deep", attack="pgd")
    assert (row["method"], row["label"], row["measured"]) == ("hcp", "theirs", 15.5)
    assert not (table["method"] == "pcl_deep").any()  # no row in table 11 without a key
    three = pcl_table(3, cells.assign(setting="white-box"), paper, PUBLISHED, DATASETS)
    own = only(three, dataset="cifar10", method="pcl_deep", attack="pgd")
    assert (own["key"], own["measured"], pd.isna(own["published"])) == ("", 30.5, True)


def test_table3_shows_both_settings_and_methods_of_ones_own(tables: dict[int, pd.DataFrame]) -> None:
    text = pcl_table_markdown(3, tables[3], "Epochs: few.", PAPER.names, cw="C&W: so.")
    inside = lines(text, "### cifar10, white-box")
    assert inside[0][1:] == [
        *("clean", "FGSM, eps 0.03", "BIM, eps 0.03", "C&W, c 0.1 (50 images)", "MIM, eps 0.03", "PGD, eps 0.03")
    ]
    assert [row[0] for row in inside[1:]] == ["SM", "PCL", "PCL + AT-FGSM", "PCL*"]
    assert inside[2][6] == "30.5 ± 0.7 [24.5, 37.2] (paper 27.20, +3.3)"
    assert inside[4][6].startswith("**50.5")
    assert inside[3][1:] == ["-"] * 6
    outside = lines(text, "### cifar10, black-box")
    assert outside[0][1:] == ["C&W, c 0.1 (200 images)", "PGD, eps 0.03"]
    assert outside[1] == ["SM", "-", "11.0 ± 1.4 [7.4, 16.1] (paper 29.10, -18.1)"]
    assert outside[4] == ["PCL*", "-", "**41.0 ± 1.4 [34.4, 47.9] (paper 88.80, -47.8)**"]
    assert "Measured values missing (-): PCL + AT-FGSM (not run)." in text
    assert "Epochs: few. C&W: so.\n" in text
    assert lines(text, "#### mnist, black-box")[1] == ["SM", "23.00", "17.80", "20.90", "14.80", "11.90"]
    assert len(inside) == 1 + 4  # pcl is in another of the paper's tables, so it is none of one's own


def test_own_methods_follow_below_in_table3(data: Path, cells: pd.DataFrame) -> None:
    transfer = load_transfer(data / "transfer", datasets=list(DATASETS), seeds=[0, 1])
    paper = made_paper({"mine": "", **PAPER.keys}, LABELS)
    both = pcl_cells(cells.replace({"method": {"hcp": "mine"}}), transfer, paper)
    table = pcl_table(3, both, paper, PUBLISHED, DATASETS)
    assert list(dict.fromkeys(table.loc[table["dataset"] == "digits", "method"])) == [
        "softmax_fs",
        "pcl_deep",
        "pcl_at_pgd",
        "mine",
    ]
    assert lines(pcl_table_markdown(3, table, "", PAPER.names, cw="C&W: so."), "### digits, white-box")[-1][0] == "mine"


def test_adaptive_values_stand_beside_the_usual_ones(tables: dict[int, pd.DataFrame]) -> None:
    text = pcl_table_markdown(4, tables[4], "Epochs: few.", PAPER.names, cw="C&W: so.")
    rows = lines(text, "### cifar10")
    assert rows[0] == ["method", "clean", *(f"{attack}, eps 0.03" for attack in ("FGSM", "BIM", "MIM", "PGD"))]
    assert rows[1][5] == "25.5 ± 0.7 [20.0, 32.0] (paper 27.09, -1.6), usual 30.5 ± 0.7 [24.5, 37.2]"
    assert "**" not in text
    assert "C&W" not in text
    assert "too weak" not in text.split("### cifar10")[1]
    others = lines(text, "### cifar10, methods not in the paper's table")
    assert [row[0] for row in others[1:]] == ["HCP"]
    assert "usual 15.5" in others[1][5]
    assert lines(text, "#### fashion_mnist")[2][5] == "34.70, usual 35.30"
    assert only(tables[4], dataset="digits", method="hcp", attack="pgd", setting="adaptive")["measured"] == 10.5


def test_an_adaptive_attack_that_is_the_weaker_one_is_marked(tables: dict[int, pd.DataFrame]) -> None:
    table = tables[4].copy()
    adaptive = (table["setting"] == "adaptive") & (table["method"] == "pcl_deep") & (table["attack"] == "pgd")
    at = adaptive & (table["dataset"] == "cifar10")
    table.loc[at, ["measured", "ci95_low", "ci95_high"]] = [57.0, 51.0, 63.0]  # usual: 30.5 [24.5, 37.2], 6.4 more over two seeds
    rows = lines(pcl_table_markdown(4, table, "", PAPER.names, cw=""), "### cifar10")
    assert rows[1][5].endswith(f"usual 30.5 ± 0.7 [24.5, 37.2]: {WEAK}")
    assert WEAK not in "".join(rows[1][:5] + rows[2])
    table.loc[at, "ci95_low"] = 38.0  # apart on the images, not with the spread over seeds
    assert WEAK not in "".join(lines(pcl_table_markdown(4, table, "", PAPER.names, cw=""), "### cifar10")[1])


def test_cw_says_how_it_ran_and_how_in_the_paper() -> None:
    options = {"steps": 200, "learning_rate": 0.05, "confidence": 0.0, "binary_search_steps": 1}
    paper = "; the paper: 1000 steps with learning rate 0.01."  # its table 2
    assert cw_text(options, PUBLISHED) == f"C&W: 200 steps with learning rate 0.05, confidence 0, c as given{paper}"
    assert "binary search over 9 constants from c on" in cw_text(options | {"binary_search_steps": 9}, PUBLISHED)


def test_comparison_has_methods_in_the_columns_and_says_what_is_missing(tables: dict[int, pd.DataFrame]) -> None:
    text = pcl_table_markdown(5, tables[5], "Epochs: few.", PAPER.names, cw="C&W: so.")
    rows = lines(text, "### cifar10")
    assert rows[0][:4] == ["attack", "SM", "AT-FGSM (Kurakin)", "Yu"]
    assert [row[0] for row in rows[1:4]] == ["clean", "FGSM, eps 0.02", "BIM, eps 0.02"]
    assert rows[-1][0] == "PGD, eps 0.02"
    assert rows[-1][3] == "-"
    assert rows[-1][7].endswith("(paper 39.30, +11.2)")  # 60 + 40 and two more in the other seed, of 200
    assert "Yu (neither code nor" in text
    assert "Epochs: few. C&W: so.\n" in text
    unmeasured = lines(text, "#### cifar10")
    assert "FGSM, eps 0.04" in [row[0] for row in unmeasured]
    assert (
        "cifar10"
        not in pcl_table_markdown(6, tables[6], "", PAPER.names, cw="C&W: so.").split("### Published, not measured here")[1]
    )


def test_transfer_matrix_underlines_the_white_box_values(tables: dict[int, pd.DataFrame]) -> None:
    text = pcl_table_markdown(13, tables[13], "Epochs: few.", PAPER.names, cw="C&W: so.")
    rows = lines(text, "### cifar10")
    assert rows[0] == ["source", "VGG", "VGG-19 AT-FGSM", "Madry", "PCL*"]
    assert rows[1][1] == "<u>2.0 ± 1.4 [0.8, 5.0] (paper 0.00, +2.0)</u>"
    assert rows[1][4].startswith("41.0")
    assert [row[0] for row in rows[1:]] == ["VGG", "PCL*"]
    assert rows[2][4].startswith("<u>51.0")
    assert rows[2][3] == "-"
    assert "**" not in text.split("### cifar10")[1]


def test_nothing_measured_still_shows_the_paper() -> None:
    empty = pd.DataFrame(columns=["dataset", "method", "seed", "setting", "attack", "eps", "images", "accuracy"])
    empty = empty.astype({"attack": str, "setting": str, "eps": float, "images": int, "accuracy": float, "seed": int})
    text = pcl_table_markdown(8, pcl_table(8, empty, made_paper({}), PUBLISHED, {}), "", NAMES, cw="C&W: so.")
    assert "Nothing measured in this run." in text
    assert lines(text, "#### svhn")[:2] == [["attack", "ATDA (Song)", "PCL + AT-PGD"], ["clean", "82.90", "**94.40**"]]
    assert lines(text, "#### cifar100")[:2] == [["attack", "ATDA (Song)", "PCL (3+4+5)"], ["clean", "61.60", "**71.90**"]]
    assert "C&W" not in text


def test_two_rows_for_one_cell_are_an_error() -> None:
    rows = pd.DataFrame({"label": ["A", "A"], "column": ["x", "x"], "measured": [1.0, 2.0]})
    with pytest.raises(ValueError, match="two values for A, x"):
        grid(rows, lines=rows["label"], columns=rows["column"], value="measured", text=str, best=None)


@pytest.fixture
def cost(tmp_path: Path) -> pd.DataFrame:
    seconds = {"softmax_fs": [1.0, 2.0, 4.0], "contrastive": [3.0, 4.0, 10.0], "pcl_deep": [2.0, 5.0, 8.0], "hcp": [1.5, 3.0, 6.0]}
    write_cost(tmp_path / "digits.csv", seconds)
    methods = list(seconds)
    paper = made_paper({method: method for method in methods if method != "hcp"}, LABELS)
    return cost_table(load_cost(tmp_path, datasets=["digits"], methods=methods), paper, PUBLISHED)


def test_cost_ratios_are_taken_within_a_repeat(cost: pd.DataFrame) -> None:
    row = only(cost, method="contrastive", metric="times-cross-entropy")  # 3 / 1, 4 / 2, 10 / 4
    assert (row["measured"], row["low"], row["high"]) == (2.5, 2.0, 3.0)  # the ratio of the medians is 2
    assert row["published"] == pytest.approx(133.5 / 25.9, abs=1e-4)
    assert row["difference"] == pytest.approx(2.5 - 133.5 / 25.9, abs=1e-4)
    seconds = only(cost, method="contrastive", metric="seconds-per-epoch")
    assert (seconds["measured"], seconds["low"], seconds["high"], seconds["published"]) == (4.0, 3.0, 10.0, 133.5)
    assert pd.isna(seconds["difference"])  # another machine
    assert only(cost, method="pcl_deep", metric="epochs")["measured"] == 30
    assert pd.isna(only(cost, method="hcp", metric="times-cross-entropy")["published"])


def test_cost_table_is_laid_out_as_in_the_paper(cost: pd.DataFrame) -> None:
    rows = lines(cost_markdown(cost), "### digits")
    assert rows[0] == ["", "SM", "contrastive", "PCL", "HCP"]
    by_name = {row[0]: row[1:] for row in rows[1:]}
    assert by_name["times cross entropy"] == ["1 [1, 1]", "2.5 [2, 3]", "2 [2, 2.5]", "1.5 [1.5, 1.5]"]
    assert by_name["times cross entropy, paper"] == ["1.00", "5.15", "3.97", "-"]
    assert by_name["epochs, paper"] == ["164", "400", "300", "-"]


def test_without_cross_entropy_there_are_times_and_no_ratios(tmp_path: Path) -> None:
    write_cost(tmp_path / "digits.csv", {"pcl_deep": [2.0, 5.0]})
    paper = made_paper({"pcl_deep": "pcl_deep"})
    table = cost_table(load_cost(tmp_path, datasets=["digits"], methods=["pcl_deep"]), paper, PUBLISHED)
    assert list(table["metric"]) == ["seconds-per-epoch", "epochs"]
    assert "Nothing measured" in cost_markdown(cost_table(None, paper, PUBLISHED))


def test_missing_files_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"transfer/digits/0.csv; run `dvc repro transfer`"):
        load_transfer(tmp_path / "transfer", datasets=["digits"], seeds=[0])


def test_sweep_holds_every_eps_of_the_methods_that_were_swept(cells: pd.DataFrame) -> None:
    table = sweep_table(cells, PAPER, DATASETS)
    assert set(table["method"]) == {"softmax_fs", "pcl_deep"}
    assert set(table["dataset"]) == {"cifar10"}
    assert list(dict.fromkeys(table["eps"])) == [0.0, 0.02, 0.03, 1.0]
    assert set(table["attack"]) == {"clean", "fgsm", "bim", "mim", "pgd"}  # C&W with c 1 is no eps
    assert only(table, method="pcl_deep", attack="fgsm", eps=0.03)["measured"] == 40.5


def test_the_papers_attack_is_the_strongest_of_those_with_a_bound_that_do_not_know_the_prototypes() -> None:
    attacks = {
        "clean": 9.0,
        "fgsm": 30.0,
        "pgd": 25.0,
        "adaptive_pgd": 20.0,
        "cw": 1.0,
        "noise": 0.1,
        "autoattack": 2.0,
        "robust": 2.0,
    }
    rows = pd.DataFrame({"attack": list(attacks), "measured": list(attacks.values())})
    found = papers_attack(rows)
    assert found is not None
    assert found["attack"] == "pgd"
    assert papers_attack(rows[rows["attack"].isin(["clean", "cw", "noise", "robust"])]) is None


def row(method: str, attack: str, mean: float, *, eps: float = 0.1, setting: str = "white-box") -> dict[str, object]:
    values = {"measured": mean, "ci95_low": mean - 1, "ci95_high": mean + 1, "published": float("nan")}
    return {"dataset": "d", "method": method, "key": method, "label": method, "attack": attack, "eps": eps, "setting": setting} | {
        **values,
        **{"seeds": 1, "seed_std": float("nan")},
    }


def test_depth_claims_name_the_layers_that_do_not_follow() -> None:
    values = {"pcl_5": 50, "pcl_4": 40, "pcl_3": 30, "pcl_2": 20, "pcl_1": 10, "pcl": 60, "pcl_deep": 70, "softmax_fs": 5}
    table = pd.DataFrame([row(method, "pgd", value) for method, value in values.items()])
    names = NAMES | {"pcl_2": "second"}
    assert [found.verdict for found in pcl_findings.deeper_is_better(table, "d", names)] == [HOLDS, HOLDS]
    values |= {"pcl_2": 45, "pcl": 71}
    table = pd.DataFrame([row(method, "pgd", value) for method, value in values.items()])
    chain, best = pcl_findings.deeper_is_better(table, "d", names)
    assert (chain.verdict, chain.measured) == (FAILS, "3 of 4 hold, 0 not told apart; not for PCL (3) over second")
    assert (best.verdict, best.measured) == (OPEN, "6 of 7 hold, 1 not told apart")
    chain, best = pcl_findings.deeper_is_better(table[table["method"].isin(["pcl_deep", "pcl_5"])], "d", names)
    assert (chain.verdict, best.verdict, best.measured) == (MISSING, HOLDS, "1 of 1 hold, 0 not told apart")


def test_adaptive_attack_costs_at_most_what_it_costs_in_the_paper() -> None:
    drop = pcl_findings.published_drop(pcl_published(PUBLISHED, 4))
    assert drop == pytest.approx(49.3 - 47.31)
    table = pd.DataFrame([row("pcl_deep", "pgd", 40), row("pcl_deep", "pgd", 40.5, setting="adaptive")])
    assert pcl_findings.adaptive_costs_little(table, "d", drop, PAPER.names)[0].verdict == HOLDS
    table["measured"], table["ci95_low"], table["ci95_high"] = [40.0, 30.0], [39.0, 29.0], [41.0, 31.0]
    found = pcl_findings.adaptive_costs_little(table, "d", drop, PAPER.names)
    assert [finding.verdict for finding in found] == [FAILS, MISSING, MISSING]
    assert found[0].claim == "PCL: an attack with knowledge of the prototypes takes at most 2 points more"
    assert found[0].measured == "PGD 30.0 [29.0, 31.0] against 40.0 [39.0, 41.0]"


def test_an_adaptive_attack_that_is_the_weaker_one_tells_nothing() -> None:
    def verdict(*pairs: tuple[float, float]) -> tuple[str, str]:
        attacks = zip(("fgsm", "pgd"), pairs, strict=False)
        by_setting = [(a, {"adaptive": known, "white-box": usual}) for a, (known, usual) in attacks]
        table = pd.DataFrame([row("pcl_deep", a, v, setting=name) for a, values in by_setting for name, v in values.items()])
        found = pcl_findings.adaptive_costs_little(table, "d", 2.0, PAPER.names)[0]
        return found.verdict, found.measured

    weak = "FGSM 47.2 [46.2, 48.2] against 14.2 [13.2, 15.2]: attack too weak to tell"
    assert verdict((47.2, 14.2)) == (WEAK, weak)
    assert verdict((15.2, 14.2))[0] == HOLDS  # above, but not told apart
    assert verdict((47.2, 14.2), (14.0, 13.5)) == (WEAK, f"{weak}<br>PGD 14.0 [13.0, 15.0] against 13.5 [12.5, 14.5]")
    assert verdict((47.2, 14.2), (11.0, 13.5))[0] == WEAK  # the other is open
    assert verdict((47.2, 14.2), (5.0, 13.5))[0] == FAILS


def test_black_box_and_own_images_each_way() -> None:
    table = pd.DataFrame([row("pcl_deep", "pgd", 40), row("pcl_deep", "pgd", 60, setting="from vgg")])
    assert pcl_findings.black_box_above_white_box(table, "d", PAPER.names).verdict == HOLDS
    swapped = table.assign(setting=["from vgg", "white-box"])
    found = pcl_findings.black_box_above_white_box(swapped, "d", PAPER.names)
    assert (found.verdict, found.measured) == (FAILS, "0 of 1 hold, 0 not told apart; not for PCL PGD")
    matrix = pd.DataFrame([row("madry", "pgd", 40, setting="from madry"), row("madry", "pgd", 50, setting="from vgg")])
    assert pcl_findings.own_images_harm_most(matrix, "d").verdict == HOLDS
    found = pcl_findings.own_images_harm_most(matrix.assign(setting=["from vgg", "from madry"]), "d")
    assert (found.verdict, found.measured) == (FAILS, "0 of 1 hold, 0 not told apart; not for madry from vgg")


def test_falling_to_zero_takes_the_strongest_attack_at_the_largest_eps() -> None:
    measured = [("pgd", 0.0, 0.5), ("fgsm", 1.7, 1.0), ("pgd", 0.0, 1.0)]
    sweep = pd.DataFrame([row("pcl_deep", attack, value, eps=eps) for attack, value, eps in measured])
    sweep.loc[2, ["ci95_low", "ci95_high"]] = [0.0, 1.1]
    found = pcl_findings.falls_to_zero(sweep, "d", PAPER.names)
    assert (found.verdict, found.measured) == (HOLDS, "eps 1: FGSM 1.7 [0.7, 2.7], PGD 0.0 [0.0, 1.1]")
    assert found.claim.startswith("PCL falls to 0 % under the strongest attack")
    sweep.loc[2, ["measured", "ci95_low"]] = [0.3, 0.1]
    assert pcl_findings.falls_to_zero(sweep, "d", PAPER.names).verdict == FAILS
    sweep.loc[2, ["seeds", "seed_std"]] = [4, 0.3]  # 1.96 * 0.3 / 2 down from 0.1
    assert pcl_findings.falls_to_zero(sweep, "d", PAPER.names).verdict == OPEN
    assert pcl_findings.falls_to_zero(sweep.head(0), "d", PAPER.names).verdict == MISSING


def test_cost_claim_compares_ranges_over_repeats(cost: pd.DataFrame) -> None:
    contrastive, triplet = pcl_findings.costs_at_most(cost, "digits", PAPER.names)
    assert (contrastive.verdict, contrastive.measured) == (OPEN, "2.00 [2.00, 2.50] against 2.50 [2.00, 3.00]")
    assert contrastive.paper == "3.97 against 5.15"
    assert triplet.verdict == MISSING
    cost.loc[cost["method"] == "contrastive", ["measured", "low", "high"]] = [3.2, 2.6, 3.3]
    assert pcl_findings.costs_at_most(cost, "digits", PAPER.names)[0].verdict == HOLDS


def test_findings_of_a_whole_run(tables: dict[int, pd.DataFrame], cells: pd.DataFrame, cost: pd.DataFrame) -> None:
    sweep = sweep_table(cells, PAPER, DATASETS)
    found = pcl_findings.pcl_findings(
        {**tables, 12: cost}, sweep, {"cifar10": 0.05, "digits": 0.1}, {"cifar10": 1.0, "digits": 1.0}, PAPER.names
    )
    verdicts = {(finding.dataset, finding.claim): finding for finding in found}
    assert verdicts["cifar10", "PCL beats SM under every attack, eps 0.03"].verdict == HOLDS  # 30 % against 1 %
    assert verdicts["cifar10", "PCL* beats PCL under every attack, eps 0.03"].verdict == HOLDS
    madry = verdicts["cifar10", "PCL* beats Madry under PGD, eps 0.02"]
    assert (madry.verdict, madry.paper) == (OPEN, "58.50 against 48.50")
    assert verdicts["cifar10", "PCL beats Triplet under every attack, eps 0.031373"].verdict == MISSING
    assert verdicts["cifar10", "PCL beats SM under C&W, c 0.1"].paper == "37.30 against 0.60"
    zero = "PCL falls to 0 % under the strongest attack when nothing bounds the noise but the image range (figure 7)"
    assert verdicts["digits", zero].verdict == MISSING
    assert len(verdicts) == len(found)


def test_a_source_stands_in_the_tables_as_what_it_is_published_as() -> None:
    item = made_item(sources={"my_vgg": {"label": "Mine", "published": "vgg"}, "other": {"label": "Other", "published": None}})
    paper = paper_rows(run_from(item), "pcl")
    assert (paper.keys["my_vgg"], paper.keys["other"], paper.names["vgg"]) == ("vgg", "", "Mine")
    transfer = pd.DataFrame({"source": ["my_vgg", "other"], "method": "hcp", "attack": "pgd", "eps": 0.1, "accuracy": 1.0})
    cells = transfer.drop(columns="source").iloc[:1]
    assert pcl_cells(cells, transfer, paper)["setting"].tolist() == ["white-box", "from vgg"]
