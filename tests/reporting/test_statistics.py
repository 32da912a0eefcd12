"""Friedman and Nemenyi against values worked by hand, the closed form, and what the hcp paper prints."""

import math

import numpy as np
import pandas as pd
import pytest
from made_run import made_paper
from scipy.stats import chi2, studentized_range

from pipeline.reporting.hcp.statistics import (
    blocks_text,
    friedman,
    hcp_groups,
    measured_blocks,
    published_blocks,
    statistics_frame,
    why_not,
)
from pipeline.reporting.hcp.statistics_text import mean_ranks, p_matrix, reason, scalar, separated, statistics_markdown
from pipeline.reporting.published import NAMES, load_published, published_value
from pipeline.reporting.run import Dataset

PUBLISHED = load_published()
THEIRS = published_blocks(PUBLISHED)
FOUR = ["at", "center", "pcl", "hcp"]
KEYS = {key: key for key in NAMES}


def cell(method: str, attack: str, accuracy: float, *, eps: float = 0.1, mse: float = 0.0, seed: int = 0) -> dict[str, object]:
    return {"dataset": "d", "method": method, "seed": seed, "attack": attack, "eps": eps, "accuracy": accuracy, "mse": mse}


def cells_of(values: dict[str, list[float]]) -> pd.DataFrame:
    """values: method -> clean accuracy, BIM accuracy, PGD accuracy, noise MSE."""
    rows = []
    for method, (clean, bim, pgd, noise) in values.items():
        rows += [cell(method, "clean", clean, eps=0.0), cell(method, "bim", bim), cell(method, "pgd", pgd)]
        rows += [cell(method, "noise_sample", 0.0, eps=5.0, mse=9.0), cell(method, "noise_batch", 0.0, eps=5.0, mse=noise)]
    return pd.DataFrame(rows)


CELLS = cells_of(
    {
        "at": [80, 50, 40, 0.3],  # ranks 3, 1, 1, 1
        "pcl": [90, 30, 20, 0.1],  # ranks 2, 3, 2.5, 3
        "hcp": [95, 40, 20, 0.2],  # ranks 1, 2, 2.5, 2
    }
)


DATASETS = {"d": Dataset([0.1], [], [], table_eps=0.1, table_c=1.0, headline_eps=0.1, epochs={})}


def frame_of(cells: pd.DataFrame, compare: list[str], methods: list[str]) -> pd.DataFrame:
    paper = made_paper({method: method for method in methods})
    return statistics_frame(hcp_groups(cells, paper, PUBLISHED, DATASETS, compare), PUBLISHED, 0.1)


def test_ranks_and_statistic_equal_the_values_worked_by_hand() -> None:
    blocks = measured_blocks(CELLS, ["at", "pcl", "hcp"], THEIRS)
    assert blocks.shape == (4, 3)
    test = friedman(blocks, alpha=0.1)
    assert test.ranks.to_dict() == {"at": 1.5, "pcl": 2.625, "hcp": 1.875}
    # sum of squared rank sums 36 + 110.25 + 56.25 = 202.5; 12 / (4 * 3 * 4) * 202.5 - 3 * 4 * 4 = 2.625;
    # tie correction: one pair, (2^3 - 2) / (4 * (3^3 - 3)) = 1 / 16, so 2.625 / (15 / 16) = 2.8
    assert test.scalars["chi2"] == pytest.approx(2.8)
    assert test.scalars["p"] == pytest.approx(math.exp(-1.4))  # chi-squared with 2 degrees of freedom: exp(-x / 2)
    assert (test.scalars["df"], test.scalars["blocks"]) == (2, 4)
    assert test.scalars["critical_value"] == pytest.approx(-2 * math.log(0.1))


def test_a_distance_equal_to_the_critical_one_has_p_equal_to_alpha() -> None:
    blocks = pd.DataFrame(np.random.default_rng(0).random((20, 4)), columns=list("abcd"))
    test = friedman(blocks, alpha=0.1)
    unit = math.sqrt(4 * 5 / (6 * 20))
    assert studentized_range.sf(test.scalars["critical_distance"] / unit * math.sqrt(2), 4, np.inf) == pytest.approx(0.1)
    assert test.scalars["critical_distance"] == pytest.approx(
        2.291 * unit, abs=1e-3
    )  # q_0.10 of Demsar 2006, table 5, 4 classifiers
    for a in blocks:
        for b in blocks:
            further = abs(test.ranks[a] - test.ranks[b]) > test.scalars["critical_distance"]
            assert (test.p_values.loc[a, b] < 0.1) == further


def test_the_papers_statistic_comes_out_with_the_better_of_its_two_hcp_models() -> None:
    published = load_published()
    paper = published_blocks(published)
    assert paper[FOUR].shape == (15, 4)
    best = friedman(paper[FOUR].assign(hcp=paper[["hcp", "hcp_fs"]].max(axis=1)), alpha=0.1)
    for method, printed in zip(FOUR, (2.40, 2.73, 3.60, 1.26), strict=True):  # 1.26 is 19 / 15 cut off
        assert best.ranks[method] == pytest.approx(printed, abs=0.0067)
        assert published_value(published, table="sec5.3", metric="friedman-mean-rank", key=method) == printed
    assert best.scalars["chi2"] == pytest.approx(25.16, abs=1e-9)
    assert best.scalars["critical_value"] == pytest.approx(6.2514, abs=5e-5)
    assert best.scalars["critical_distance"] == pytest.approx(1.08, abs=5e-3)
    only_sm = friedman(paper[FOUR], alpha=0.1)
    assert only_sm.ranks.to_list() == pytest.approx([36 / 15, 38 / 15, 54 / 15, 22 / 15])
    assert only_sm.scalars["chi2"] == pytest.approx(20.6)  # 12 / (15 * 4 * 5) * (36^2 + 38^2 + 54^2 + 22^2) - 3 * 15 * 5
    swapped = paper[FOUR].copy()
    swapped.loc[("svhn", "bim", 0.03), "at"] = 77.73  # as in table 4: the misprint changes no rank
    assert friedman(swapped, alpha=0.1).ranks.equals(only_sm.ranks)


def test_with_hcp_sm_alone_the_papers_tables_do_not_separate_hcp_from_at_and_cl() -> None:
    table = frame_of(CELLS, ["at", "pcl", "hcp"], ["at", "pcl", "hcp"])
    assert separated(table, "published", KEYS) == "at before pcl, hcp before pcl"
    assert separated(table, "published_best", KEYS) == "at before pcl, hcp before at, hcp before center, hcp before pcl"


def test_blocks_take_the_papers_stop_rule_and_leave_gaps_out() -> None:
    assert measured_blocks(CELLS, ["at"], THEIRS).loc[("d", "noise", 5.0), "at"] == 0.3
    only_sample = CELLS[CELLS["attack"] != "noise_batch"]
    assert measured_blocks(only_sample, ["at"], THEIRS).loc[("d", "noise", 5.0), "at"] == 9.0
    gap = CELLS[(CELLS["method"] != "pcl") | (CELLS["attack"] != "pgd")]
    assert len(measured_blocks(gap, ["at", "pcl", "hcp"], THEIRS)) == 3
    assert list(measured_blocks(CELLS, ["hcp", "never_run", "at"], THEIRS)) == ["hcp", "at"]


def test_seeds_are_averaged_within_a_block() -> None:
    other = CELLS.assign(seed=1, accuracy=CELLS["accuracy"] + 10)
    blocks = measured_blocks(pd.concat([CELLS, other]), ["at", "pcl", "hcp"], THEIRS)
    assert len(blocks) == 4
    assert blocks.loc[("d", "bim", 0.1), "at"] == 55.0


def test_the_papers_data_sets_give_its_15_blocks() -> None:
    rows = []
    for dataset, eps in (("cifar10", 0.03), ("cifar100", 0.01), ("svhn", 0.03)):
        for place, method in enumerate(FOUR):
            own = [cell(method, "clean", 90.0 + place, eps=0.0), cell(method, "noise_batch", 0.0, eps=5.0, mse=0.1 * place)]
            own += [cell(method, attack, 40.0 + place, eps=e) for attack in ("fgsm", "bim", "mim", "pgd") for e in (eps, 8 / 255)]
            rows += [{**one, "dataset": dataset, "seed": seed} for one in own for seed in (0, 1)]
    datasets = dict.fromkeys(("cifar10", "cifar100", "svhn"), DATASETS["d"])
    groups = hcp_groups(pd.DataFrame(rows), made_paper({key: key for key in FOUR}), PUBLISHED, datasets, FOUR)
    assert groups["compare"].shape == (15, 4)
    assert set(groups["compare"].index) == set(THEIRS.index)
    assert groups["all"].shape == (15, 4)
    assert "cifar10, svhn: clean; noise; FGSM at eps 0.03; BIM at eps 0.03; MIM at eps 0.03" in blocks_text(groups["compare"])
    assert friedman(groups["compare"], 0.1).scalars["critical_distance"] == pytest.approx(1.08, abs=5e-3)  # as printed
    two = hcp_groups(pd.DataFrame(rows), made_paper({key: key for key in FOUR}), PUBLISHED, datasets, ["hcp", "madry", "at"])
    assert list(two["compare"]) == ["hcp", "at"]  # those that are there


def test_compare_means_the_methods_that_claim_the_keys() -> None:
    paper = made_paper({"at": "at", "ours": "hcp", "hcp": ""})
    cells = pd.concat([CELLS, CELLS[CELLS["method"] == "pcl"].assign(method="ours")])
    groups = hcp_groups(cells, paper, PUBLISHED, DATASETS, ["at", "pcl", "hcp"])
    assert list(groups["compare"]) == ["at", "hcp"]
    assert groups["compare"].loc[("d", "clean", 0.0), "hcp"] == 90  # of `ours`
    assert list(groups["all"]) == ["at", "ours", "hcp"]


def test_frame_puts_the_printed_values_beside_and_reads_back() -> None:
    table = frame_of(CELLS, ["at", "pcl", "hcp"], ["pcl", "hcp", "at"])
    assert mean_ranks(table, "compare").to_dict() == {"at": 1.5, "pcl": 2.625, "hcp": 1.875}
    assert mean_ranks(table, "compare", "printed").to_dict() == {"at": 2.40, "pcl": 3.60, "hcp": 1.26}
    assert list(mean_ranks(table, "all").index) == ["at", "pcl", "hcp"]  # the paper's order
    assert mean_ranks(table, "all", "printed").isna().all()
    assert scalar(table, "published", "chi2", "printed") == 25.16
    matrix = p_matrix(table, "compare")
    assert (matrix.to_numpy() == matrix.to_numpy().T).all()
    expected = studentized_range.sf(1.125 / math.sqrt(3 * 4 / (6 * 4)) * math.sqrt(2), 3, np.inf)
    assert matrix.loc["at", "pcl"] == pytest.approx(expected, rel=1e-4)


def test_too_little_to_test_is_said_and_written() -> None:
    assert "got 2 and 4" in why_not(measured_blocks(CELLS, ["at", "hcp"], THEIRS))
    assert "got 3 and 2" in why_not(measured_blocks(CELLS, ["at", "pcl", "hcp"], THEIRS).head(2))
    same = pd.DataFrame({"a": [1.0, 2, 3], "b": [1.0, 2, 3], "c": [1.0, 2, 3]})
    assert why_not(same) == "all methods tie in every experiment"
    table = frame_of(CELLS, ["at", "hcp", "never_run"], ["at", "hcp"])
    assert "at least 3 methods" in reason(table, "compare")
    assert "at least 3 methods" in reason(table, "all")
    text = statistics_markdown(table, KEYS, KEYS)
    assert text.count("at least 3 methods") == 2
    assert "25.16" in text


def test_markdown_states_ranks_critical_distance_and_the_caution() -> None:
    table = frame_of(CELLS, FOUR, ["at", "pcl", "hcp"])
    text = statistics_markdown(table, KEYS, KEYS | {"hcp": "HCP (SM)"})
    row = next(line for line in text.splitlines() if line.startswith("| mean rank, HCP (SM)"))
    assert [part.strip() for part in row.strip("|").split("|")[1:]] == ["1.26", "1.47", "1.27", "1.88"]
    row = next(line for line in text.splitlines() if line.startswith("| mean rank, center"))
    assert row.rstrip("| ").endswith("-")  # not measured
    assert "too optimistic" in text
    assert "14 x 3 = 42 degrees of freedom" in text
    assert "at most 0.01 from those of the better of HCP (SM) and HCP (FS)" in text


def test_critical_value_is_that_of_chi_squared_at_the_given_alpha() -> None:
    blocks = pd.DataFrame(np.random.default_rng(1).random((9, 5)), columns=list("abcde"))
    assert friedman(blocks, alpha=0.05).scalars["critical_value"] == pytest.approx(chi2.isf(0.05, 4))
