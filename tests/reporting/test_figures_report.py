"""Findings each way; then the stages from tables on, run from the shell on a made tree: images, links, equal bytes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import (
    made_item,
    made_paper,
    make_run,
    outcome_rows,
    run_stage,
    write_data,
    write_features,
    write_items,
    write_outcomes,
    write_record,
    write_verdict,
)
from PIL import Image
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from pipeline.reporting import findings
from pipeline.reporting.drawing import features_panel
from pipeline.reporting.findings import FAILS, HOLDS, MISSING, OPEN, WEAK, Claim, Finding, Value, of
from pipeline.reporting.hcp.figures import critical_difference_figure, features_figure, noise_figure
from pipeline.reporting.hcp.findings import all_fooled, hcp_findings
from pipeline.reporting.hcp.statistics import hcp_groups, statistics_frame
from pipeline.reporting.page.report import Details, findings_parts
from pipeline.reporting.published import NAMES, load_published

RIGHT = {"softmax_fs": 4, "at": 60, "center": 10, "pcl": 15, "hcp": 40, "hcp_fs": 45, "mine": 30}  # of 100, under BIM
N = 100


def write_model(folder: Path, right: int, eps: float, rng: np.random.Generator) -> None:
    write_outcomes(folder, {("clean", 0.0): 95, ("fgsm", eps): right + 20, ("bim", eps): right}, N)
    noise = [outcome_rows(name, 5.0, 0, N, rng.gamma(9, right / 1000, N)) for name in ("noise_sample", "noise_batch")]
    pd.concat([pd.read_parquet(folder / "outcomes.parquet"), *noise]).to_parquet(folder / "outcomes.parquet")
    write_features(folder, N, {"layer4": right / 20, "layer5": right / 10})


def all_stages(folder: Path, hash_seed: str = "0") -> None:
    for stage in ("tables", "figures", "cards", "report"):
        done = run_stage(stage, folder, hash_seed)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder / ".ckpt", ignore_errors=True)  # times differ from run to run


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile folder with methods of the hcp paper alone, in which the four stages have run."""
    folder = tmp_path_factory.mktemp("profile")
    datasets = {
        name: {"eps": [eps], "table_eps": eps, "headline_eps": eps, "sweep": []}
        for name, eps in (("cifar10", 0.03), ("digits", 0.1))
    }
    lacks = ["transfer: madry is not in run.methods", "planes: pcl_deep is not in run.methods"]
    item = made_item(RIGHT, datasets, seeds=[3], transfer=[], planes=[], cost=[], lacks=lacks)
    for method in item["methods"].values():
        method["papers"] = ["hcp"]
    write_items(folder, item)
    rng = np.random.default_rng(0)
    for dataset, own in datasets.items():
        eps = own["headline_eps"]
        write_data(folder, dataset, N)
        for method, right in RIGHT.items():
            write_model(folder / "data" / "attacks" / dataset / method / "3", right, eps, rng)
            write_verdict(folder / "data" / "verdict" / dataset / method / "3", N, clean=95, standing=[right] * 4, eps=eps)
            write_record(folder / "data", (dataset, method, "3"))
    all_stages(folder)
    return folder


def value(low: float, high: float, published: float = float("nan"), bound: bool = False) -> Value:
    return Value((low + high) / 2, low, high, published, bound)


def row(method: str, attack: str, mean: float, *, eps: float = 0.1, half: float = 1.0, fooled: float = 100.0) -> dict[str, object]:
    values = {"measured": mean, "ci95_low": mean - half, "ci95_high": mean + half, "published": float("nan")}
    values |= {"seeds": 1, "seed_std": float("nan")}
    stop = attack.removeprefix("noise_")
    return {
        "method": method,
        "key": method,
        "label": method,
        "attack": attack,
        "eps": eps,
        **values,
        "fooled": fooled,
        "stop": stop,
    }


def test_the_spread_over_seeds_widens_the_interval() -> None:
    table = pd.DataFrame([row("hcp", "bim", 50)]).assign(seeds=4, seed_std=2.0)
    cell = findings.cell(of(table, "hcp"), "bim", 0.1)
    assert cell is not None
    assert (cell.low, cell.high) == pytest.approx((49 - 3.182, 51 + 3.182), abs=1e-3)  # t of 3 degrees of freedom * 2 / sqrt(4)


def test_order_holds_fails_or_stays_open() -> None:
    assert findings.order(value(50, 60), value(30, 40)) == HOLDS
    assert findings.order(value(30, 40), value(50, 60)) == FAILS
    assert findings.order(value(38, 56), value(50, 60)) == OPEN
    assert findings.order(None, value(50, 60)) == MISSING
    assert findings.order(value(92, 93), value(92.5, 93.5), margin=1.0) == OPEN
    assert findings.order(value(93, 93.5), value(93.6, 93.9), margin=1.0) == HOLDS
    assert findings.order(value(90, 91), value(93.6, 93.9), margin=1.0) == FAILS


@pytest.mark.parametrize(("one", "other", "images"), [(30, 22, 200), (199, 200, 200), (0, 7, 500), (250, 250, 500)])
def test_the_interval_of_a_difference_is_newcombes(one: int, other: int, images: int) -> None:
    """Of two accuracies, each with its Wilson interval, against statsmodels."""

    def wilson(right: int) -> findings.Value:
        low, high = proportion_confint(right, images, method="wilson")
        return findings.Value(right / images, low, high, 0.0, False)

    expected = confint_proportions_2indep(one, images, other, images, method="newcomb")
    assert findings.difference(wilson(one), wilson(other)) == pytest.approx(expected)


def test_combined_fails_on_one_and_holds_only_on_all() -> None:
    assert findings.combined([HOLDS, HOLDS, MISSING]) == HOLDS
    assert findings.combined([HOLDS, OPEN]) == OPEN
    assert findings.combined([HOLDS, OPEN, FAILS, WEAK]) == FAILS
    assert findings.combined([HOLDS, OPEN, WEAK]) == WEAK
    assert findings.combined([MISSING]) == MISSING
    assert findings.combined([]) == MISSING


def test_claims_name_methods_by_their_labels() -> None:
    names = NAMES | {"hcp": "mine", "at": "AT"}
    table = pd.DataFrame([row("hcp", "bim", 50), row("at", "bim", 30)])
    empty = table.assign(dataset="d", stop="").head(0)
    tables = {1: empty, 2: table.assign(dataset="d"), 3: empty, 4: empty}
    claims = [finding.claim for finding in hcp_findings(tables, {"d": 0.1}, names)]
    assert "mine beats AT under BIM, eps 0.1" in claims
    assert "mine needs more noise than AT (stop: batch)" in claims
    assert "mine beats CL (SM) under BIM, eps 0.1" in claims  # not in the run
    assert not any("{" in claim for claim in claims)


def test_every_verdict_is_counted() -> None:
    verdicts = [HOLDS, HOLDS, OPEN, FAILS, WEAK, MISSING]
    _, _, _, text, table, left = findings_parts(
        "PCL", [Finding("d", str(i), verdict, "-", "-") for i, verdict in enumerate(verdicts)]
    )
    counts = "holds: 2, not told apart: 1, does not hold: 1, attack too weak to tell: 1, not measured: 1."
    assert text == f"In short: {counts}"
    assert isinstance(table, str)
    assert [row.split("|")[1].strip() for row in table.splitlines()[2:]] == ["0", "1", "2", "3", "4"]
    assert isinstance(left, Details)  # what this run says nothing about
    assert (left.title, left.body) == ("Not measured: 1", "- 5")


def test_noise_that_did_not_fool_every_image_reaches_up_to_the_image_range() -> None:
    table = pd.DataFrame([row("at", "noise_batch", 0.1, half=0.01, fooled=90.0), row("hcp", "noise_batch", 0.15, half=0.01)])
    at = findings.cell(of(table, "at"), "noise_batch")
    assert at is not None
    assert at.high == pytest.approx(0.21)  # a tenth of the images, each at most 1
    claim = Claim("more noise", 3, "hcp", "at", "noise_batch")
    (found,) = findings.check(claim, table, "d", NAMES)
    assert found.verdict == OPEN
    assert "≥ 0.1000" in found.measured
    table["fooled"] = 100.0
    assert findings.check(claim, table, "d", NAMES)[0].verdict == HOLDS


def test_claims_are_checked_at_every_eps() -> None:
    table = pd.DataFrame(
        [row("hcp", "bim", 10, eps=0.2), row("hcp", "bim", 50), row("pcl", "bim", 30), row("pcl", "bim", 5, eps=0.2)]
    )
    claim = Claim("beats", 2, "hcp", "pcl", "bim")
    weak, strong = findings.check(claim, table.assign(published=[1.0, 55.0, 27.0, 1.0]), "d", NAMES)
    assert (weak.claim, weak.verdict, weak.measured, weak.paper) == (
        "beats, eps 0.1",
        HOLDS,
        "50.0 [49.0, 51.0] against 30.0 [29.0, 31.0]",
        "55.00 against 27.00",
    )
    assert (strong.claim, strong.verdict) == ("beats, eps 0.2", HOLDS)
    assert findings.check(Claim("none", 2, "hcp", "center", "bim"), table, "d", NAMES)[0].verdict == MISSING
    assert [found.verdict for found in findings.check(Claim("no", 2, "hcp", "pcl", "fgsm"), table, "d", NAMES)] == [MISSING]
    assert findings.check(Claim("loses", 2, "pcl", "hcp", "bim"), table, "d", NAMES)[0].verdict == FAILS


def test_every_attack_and_iterative_attacks_each_way() -> None:
    rows = [row("hcp_fs", "fgsm", 50), row("softmax_fs", "fgsm", 40), row("hcp_fs", "bim", 30), row("softmax_fs", "bim", 10)]
    table = pd.DataFrame(rows)

    def beats() -> str:
        return findings.beats_under_every_attack(table, "d", "hcp_fs", "softmax_fs", 0.1, NAMES).verdict

    assert beats() == HOLDS
    assert findings.iterative_beats_single_step(table, "d", 0.1).verdict == HOLDS
    table.loc[2, ["measured", "ci95_low", "ci95_high"]] = [5.0, 4.0, 6.0]
    assert beats() == FAILS
    table.loc[3, ["measured", "ci95_low", "ci95_high"]] = [60.0, 59.0, 61.0]
    found = findings.iterative_beats_single_step(table, "d", 0.1)
    assert (found.verdict, found.measured) == (FAILS, "1 of 2 hold, 0 not told apart; not for softmax_fs BIM")
    assert findings.iterative_beats_single_step(table[table["attack"] == "bim"], "d", 0.1).verdict == MISSING


def test_accuracy_that_rises_with_eps_is_named() -> None:
    clean = pd.DataFrame([row("hcp", "clean", 95, eps=0.0)])
    table = pd.DataFrame([row("hcp", "bim", 60, eps=0.1), row("hcp", "bim", 20, eps=0.2)])
    assert findings.falls_with_eps(table, clean, "d").verdict == HOLDS
    table["measured"], table["ci95_low"], table["ci95_high"] = [20.0, 40.0], [18.0, 38.0], [22.0, 42.0]
    found = findings.falls_with_eps(table, clean, "d")
    assert (found.verdict, "not for hcp BIM" in found.measured) == (FAILS, True)
    assert findings.falls_with_eps(table.head(0), clean, "d").verdict == MISSING


def test_an_image_that_resists_is_named() -> None:
    table = pd.DataFrame([row("hcp", "noise_batch", 0.1, eps=5.0), row("at", "noise_batch", 0.1, eps=5.0)])
    assert all_fooled(table, "d").verdict == HOLDS
    found = all_fooled(table.assign(fooled=[100.0, 99.5]), "d")
    assert (found.verdict, found.measured) == (FAILS, "at 99.5 % fooled (stop: batch)")
    assert all_fooled(table.head(0), "d").verdict == MISSING


def test_principal_components_share_of_the_variance_is_in_the_title() -> None:
    x = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])  # variances 18 : 8 : 2
    axes = features_figure({"d": {"hcp": (x, np.arange(6) % 2, "fc")}}, {"hcp": "HCP"}).axes[0]
    assert axes.get_title() == "HCP\n93 % of the variance"  # 26 / 28
    features_panel(axes, np.random.default_rng(0).normal(size=(300, 5)), np.arange(300) % 100)  # more classes than colours
    assert len(axes.collections) == 2 + 100


def test_noise_figure_says_where_nothing_was_measured() -> None:
    axes = noise_figure({"sample": {"a": {"hcp": np.arange(9.0)}, "b": {}}, "batch": {"a": {}, "b": {}}}, {}, set()).axes
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [[], *[["not run"]] * 3]
    assert len(axes[0].patches) == 1


def test_critical_difference_figure_says_why_there_is_no_test() -> None:
    cells = pd.DataFrame(columns=["dataset", "method", "seed", "attack", "eps", "accuracy", "mse"]).astype(
        {"attack": str, "mse": float}
    )
    groups = hcp_groups(cells, made_paper({"at": "at"}), load_published(), {}, ["at", "pcl", "hcp"])
    figure = critical_difference_figure(statistics_frame(groups, load_published(), 0.1), {}, NAMES)
    assert all("at least 3 methods" in axes.texts[0].get_text() for axes in figure.axes)


def test_figures_are_images_of_sensible_size(profile: Path) -> None:
    for name in ("hcp_figure2", "hcp_figure3", "hcp_critical_difference"):
        with Image.open(profile / "metrics" / "figures" / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG"
            assert 600 < image.width < 4000
            assert 300 < image.height < 4000
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10
            assert "Software" not in image.info


def test_a_second_run_writes_the_same_bytes(profile: Path) -> None:
    files = [path for folder in ("metrics", "data/report") for path in (profile / folder).rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    all_stages(profile, hash_seed="1")
    cards = 2 * len(RIGHT)
    assert len(files) == 12 + 4 + 9 + cards + 3 + 2  # tables and data/report with checksums, figures, cards; summary, report; sets
    in_git = [path for path in files if path.parent.name in ("tables", "figures") or path.name in ("summary.json", "report.md")]
    assert len(in_git) <= 25 - 2  # params.yaml and dvc.lock come to it
    assert [path.name for path in files if path.read_bytes() != before[path]] == []


def test_report_has_verdict_findings_tables_figures_and_statistics(profile: Path) -> None:
    text = (profile / "metrics" / "report.md").read_text()
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(links) == 1 + 3 + 5  # no cards: they are not in git
    assert all((profile / "metrics" / link).is_file() for link in links)
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    verdicts = ["Verdict: cifar10, l-inf eps 0.03", "Verdict: digits, l-inf eps 0.1"]
    assert headings[:7] == [*verdicts, "Published and measured", "Models", "What was run", "HCP: findings", "PCL: findings"]
    assert sum(heading.startswith("HCP Table") for heading in headings) == 4
    assert sum(heading.startswith("PCL Table") for heading in headings) == 10
    assert headings[-3:] == ["Known misprints in the papers", "How it was made", "How to make this page again"]
    assert "Data sets: cifar10, digits. Seeds: 3." in text
    assert "This run leaves out:\n\n- transfer: madry is not in run.methods\n- planes: pcl_deep" in text
    assert "from 32.32 % to 0.28 % under it" in text
    assert "77.33 and 77.73" in text
    assert "table 3 gives 5.7 where table 5 gives 55.7" in text


def test_report_draws_the_right_conclusions(profile: Path) -> None:
    lines = (profile / "metrics" / "report.md").read_text().split("## HCP: findings")[1].split("### cifar10")[1].splitlines()

    def parts(claim: str) -> list[str]:
        return [part.strip() for part in next(line for line in lines if claim in line).strip("|").split("|")]

    assert parts("HCP (SM) beats PCL (SM) under BIM")[1] == "**holds**"  # 40 against 15 of 100
    assert parts("HCP (SM) beats PCL (SM) under BIM")[3] == "55.51 against 27.23"
    assert parts("HCP (SM) beats AT (SM) under BIM")[1] == "**does not hold**"  # 40 against 60
    assert parts("SM (FS) beats AT (SM) in clean accuracy")[1] == "**not told apart**"  # 95 and 95
    left = lines.index("- HCP + AT beats AT (SM) under BIM, eps 0.03")
    assert any(line.startswith("<details><summary><b>Not measured: ") for line in lines[:left])
    assert parts("Every model falls to 0 % at eps 5")[1] == "**holds**"


def test_a_subset_of_methods_with_two_seeds_gives_every_file(tmp_path: Path) -> None:
    make_run(tmp_path, 40, made_item(["softmax_fs", "at", "hcp"], seeds=[0, 1], lacks=["statistics: center is not in run.methods"]))
    all_stages(tmp_path)
    table = pd.read_csv(tmp_path / "metrics/tables/hcp.csv")
    assert set(table.loc[table["measured"].notna(), "method"]) == {"softmax_fs", "at", "hcp"}
    assert set(table["seeds"].dropna()) == {2}
    assert len(list((tmp_path / "metrics/figures").iterdir())) == 9
    text = (tmp_path / "metrics/report.md").read_text()
    assert "- statistics: center is not in run.methods" in text
    assert "\n- HCP (SM) beats CL (SM) under BIM, eps 0.15\n" in text
    assert "needs at least 3 methods and 3 experiments that all of them took part in, got 2 and 14" in text  # at and hcp
