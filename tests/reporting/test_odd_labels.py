"""Labels that look like Markdown, HTML, formulas or missing values are printed as they are, in every file of a whole run."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import made_item, make_run, run_stage
from matplotlib.figure import Figure
from PIL import Image

from pipeline.reporting.drawing import drawable, save
from pipeline.reporting.files import read_table
from pipeline.reporting.markdown import markdown_table, markdown_text
from pipeline.reporting.page.html import Page
from pipeline.runtime.sums import write_sums

LABELS = {
    "softmax_fs": "None",
    "at": "![x](/secret.png) [y](javascript:1)",
    "center": "007",
    "hcp": "<script>alert(1)</script> &lt;b&gt;",
    "pcl": r"*a* **b** `c` ~~d~~ __e__ \f \* a_b_c",
    "hcp_at": r"$\frac$ costs $5",
    "pcl_deep": "NA",
    **{"hcp_fs": "猫", "pcl_at_pgd": "犬", "triplet": "猫と犬"},  # which the figures' font lacks
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, item = tmp_path_factory.mktemp("odd"), made_item()
    for method, label in LABELS.items():
        item["methods"][method]["label"] = label
    item["planes"].append("pcl_at_pgd")
    make_run(place, 60, item)
    for stage in ("tables", "figures", "cards", "report"):
        done = run_stage(stage, place)
        assert done.returncode == 0, done.stderr
        (place / f"{stage}.stderr").write_text(done.stderr)
    return place


def rendered(text: str, folder: Path) -> str:
    return str(Page(folder).markdown(text))


@pytest.mark.parametrize("label", [*LABELS.values(), "a|b", "a\\|b", "&amp; <br> <u>", "a\nb", "_a_ [b]", "[a][b] <!-- c"])
def test_text_in_markdown_is_read_as_it_was(label: str, tmp_path: Path) -> None:
    line = " ".join(label.split())
    shown = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert rendered(markdown_text(label), tmp_path) == f"<p>{shown}</p>\n"
    table = rendered(markdown_table(pd.DataFrame([{"a": markdown_text(label), "b": "**1**"}])), tmp_path)
    assert f"<td>{shown}</td>\n<td><strong>1</strong></td>" in table


def test_plain_labels_stay_as_they_are() -> None:
    for label in ("PCL (3+4+5)", "SM (FS)", "C&W", "AT-FGSM (Kurakin), 50 %", "pcl_at_pgd", "HCP M+NP", "Ö 名前"):
        assert markdown_text(label) == label


def test_every_label_goes_through_csv_files_unchanged(folder: Path) -> None:
    for name in (
        "metrics/tables/verdict.csv",
        "metrics/tables/verdict_status.csv",
        "metrics/tables/hcp.csv",
        "metrics/tables/pcl.csv",
    ):
        rows = read_table(folder / name).drop_duplicates("method").set_index("method")["label"]
        for method in set(LABELS) & set(rows.index):
            assert rows[method] == LABELS[method], (name, method)


def test_missing_numbers_stay_missing_and_text_that_is_none_stays(tmp_path: Path) -> None:
    rows = pd.DataFrame({"label": ["nan", "1.0", "true"], "method": ["null", "01", "na"], "measured": [1.5, np.nan, 2.0]})
    rows.to_csv(tmp_path / "a.csv", index=False)
    write_sums(tmp_path)
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), rows)


@pytest.mark.parametrize("file", ["metrics/report.md", "metrics/tables/hcp.md", "metrics/tables/pcl.md"])
def test_nothing_of_a_label_is_live_in_markdown(folder: Path, file: str) -> None:
    text = (folder / file).read_text()
    assert "<script" not in text
    outside_html = re.sub(r"^<details>.*$", "", text, flags=re.MULTILINE)  # in a line of HTML Markdown is none
    assert "![x](" not in outside_html
    assert not re.search(r"(?<!\\)\$", outside_html)
    without_pictures = re.sub(r"!\[[^\n]*\]\((cards|figures)/[\w/-]+\.png\)", "", text)
    page = rendered(without_pictures, folder)
    for live in ("<script", "<img", 'href="javascript', "<em>a</em>", "<code>c</code>", "<strong>e</strong>"):
        assert live not in page
    if file == "metrics/report.md":
        assert all(label in page for label in (LABELS["at"], LABELS["pcl"].replace('"', "&quot;"), LABELS["hcp_at"]))


def test_the_page_shows_labels_as_they_are(folder: Path) -> None:
    text = (folder / "metrics/report.html").read_text()
    assert text.count("<script") == 1  # the page's own
    for label in LABELS.values():
        assert label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in text


def test_no_picture_from_elsewhere_gets_into_the_page(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    inside = tmp_path / "metrics"
    inside.mkdir()
    Image.new("RGB", (2, 2)).save(inside / "own.png")
    assert "data:image/png" in rendered("![a](own.png)", inside)
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        assert rendered(f"![a]({path})", inside) == "<p>a</p>\n"


def test_a_formula_that_is_none_is_drawn_as_text(tmp_path: Path) -> None:
    for name, title in (("formula", r"$\frac$ and $x$"), ("plain", "x")):
        figure = Figure(figsize=(3, 1))
        figure.subplots().set_title(title)
        save(figure, tmp_path / f"{name}.png")
    assert (tmp_path / "formula.png").stat().st_size > (tmp_path / "plain.png").stat().st_size


def test_names_that_cannot_be_drawn_are_replaced_in_figures_and_one_line_says_so(folder: Path) -> None:
    """Without it matplotlib draws a box for each such letter, and warns of each."""
    line = (
        "warning: figures show hcp_fs for '猫', pcl_at_pgd for '犬', triplet for '猫と犬': "
        "matplotlib's font (font.family) lacks letters of these names"
    )
    assert (folder / "figures.stderr").read_text().splitlines() == [line]
    assert not (folder / "cards.stderr").read_text()


def test_what_is_drawn_in_place_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    names = {"at": "AT → 8/255…\nÖ", "hcp": "犬と"}
    assert drawable(names) == names | {"hcp": "hcp"}
    assert drawable({f"no. {place}": "猫" * place for place in range(1, 10)}) == {f"no. {n}": f"no. {n}" for n in range(1, 10)}
    drawable(names)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "warning: figures show hcp for '犬と': matplotlib's font (font.family) lacks letters of these names"
    assert "no. 1 for '猫', no. 2 for '猫猫', no. 3 for '猫猫猫' and 6 more: " in second


def test_params_do_not_end_the_block_that_they_stand_in(folder: Path) -> None:
    (folder / "params.yaml").write_text("a: 1\n```\n<script>alert(2)</script>\n````\n")
    assert run_stage("report", folder).returncode == 0
    text = (folder / "metrics/report.md").read_text()
    assert "`````yaml\na: 1\n```\n<script>alert(2)</script>\n````\n`````" in text
    assert "<script>alert(2)" not in (folder / "metrics/report.html").read_text()
