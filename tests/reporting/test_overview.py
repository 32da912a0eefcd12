"""The picture of what was published and what is left: the right value of each method, and of the right data set."""

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting.published import load_published
from pipeline.reporting.verdict.overview import overview_figure, overview_table, strongest_published

VALUES = {"clean": 98.0, "fgsm": 60.0, "pgd": 40.0, "autoattack": 35.0, "robust": 34.0}


def verdicts(dataset: str, *methods: str) -> pd.DataFrame:
    rows = [
        {"dataset": dataset, "method": method, "label": method.upper(), "attack": attack, "measured": value, "chance": 10.0}
        for method in methods
        for attack, value in VALUES.items()
    ]
    return pd.DataFrame(rows)


def test_published_is_what_the_strongest_attack_leaves_at_the_largest_eps() -> None:
    """By hand from the papers: pcl table 3 on CIFAR-10, PGD 46.7 and BIM 46.0; hcp table 2, BIM 55.51; SM by both, 0.00 and 0."""
    found = strongest_published(load_published()).set_index(["dataset", "key"])
    assert found.loc[("cifar10", "pcl_at_pgd"), ["eps", "least", "most"]].tolist() == [0.03, 46.0, 46.0]
    assert found.loc[("cifar10", "hcp"), ["eps", "least", "most"]].tolist() == [0.03, 55.51, 55.51]
    assert found.loc[("cifar10", "softmax_fs"), ["eps", "least", "most"]].tolist() == [0.03, 0.0, 0.0]
    assert found.loc[("mnist", "pcl_deep"), "eps"] == 0.3


@pytest.mark.parametrize(("dataset", "source"), [("digits", "cifar10"), ("cifar10", "cifar10"), ("mnist", "mnist")])
def test_a_data_set_of_the_papers_is_compared_with_itself(dataset: str, source: str) -> None:
    keys = {"softmax_fs": "softmax_fs", "mine": "", "deep": "pcl_deep"}
    table = overview_table(verdicts(dataset, *keys), strongest_published(load_published()), keys)
    assert table["label"].tolist() == ["SOFTMAX_FS", "MINE", "DEEP"]
    assert table["source"].eq("").tolist() == [False, True, False]  # nothing is published of it
    assert set(table["source"]) == {source, ""}
    assert (table["measured"] == VALUES["pgd"]).all()
    assert (table["autoattack"] == VALUES["autoattack"]).all()


def test_a_run_without_a_published_method_has_a_picture_that_says_so() -> None:
    table = overview_table(verdicts("digits", "mine"), strongest_published(load_published()), {"mine": ""})
    figure = overview_figure(table, {"digits": 0.1})
    assert "No method" in figure.texts[0].get_text()


def test_a_method_without_a_published_value_is_drawn_if_autoattack_leaves_more_than_chance() -> None:
    keys = {"mine": "", "broken": "", "deep": "pcl_deep"}
    found = verdicts("digits", *keys)
    found.loc[found["method"].eq("broken") & found["attack"].eq("autoattack"), "measured"] = 10.0
    table = overview_table(found, strongest_published(load_published()), keys)
    assert table["label"].tolist() == ["MINE", "DEEP"]
    figure = overview_figure(table, {"digits": 0.1})
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["MINE", "DEEP"]
    diamonds = figure.axes[0].collections[-3].get_offsets()
    assert np.isnan(np.ma.filled(diamonds[:, 0], np.nan)).tolist() == [True, False]


def test_a_line_that_is_held_against_another_data_set_says_so() -> None:
    keys = {"deep": "pcl_deep", "hcp": "hcp"}  # of hcp nothing is published on MNIST
    table = overview_table(verdicts("mnist", *keys), strongest_published(load_published()), keys)
    figure = overview_figure(table, {"mnist": 0.3})
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["DEEP", "HCP (cifar10, eps 0.03)"]
    assert figure.axes[0].get_title() == "mnist, l-inf eps 0.3 (published: eps 0.3)"


def test_data_sets_stand_in_the_order_of_the_run_and_no_point_hides_another() -> None:
    keys = {"deep": "pcl_deep"}
    table = overview_table(
        pd.concat([verdicts(name, *keys) for name in ("mnist", "fashion_mnist")]), strongest_published(load_published()), keys
    )
    figure = overview_figure(table, {"mnist": 0.3, "fashion_mnist": 0.3})
    assert [ax.get_title().split(",")[0] for ax in figure.axes] == ["mnist", "fashion_mnist"]
    _, papers, autoattack = (points.get_sizes()[0] for points in figure.axes[0].collections[-3:])
    assert papers > 2 * autoattack  # which is drawn over it
