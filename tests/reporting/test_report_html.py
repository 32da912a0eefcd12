"""metrics/report.html from made files: what is on it, that it needs nothing but itself, and how a browser lays it out."""

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from made_run import METHODS as MADE
from made_run import made_item, make_run, run_stage, write_verdict, write_verdict_tables
from PIL import Image

from pipeline.params.described import describe
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params
from pipeline.reporting.page import provenance
from pipeline.reporting.page.html import Page
from pipeline.reporting.run import run_from
from pipeline.reporting.verdict.cards import LONGEST, TEXT, WIDTH, Examples, brief, card_figure, load_card, load_examples, montage
from pipeline.reporting.verdict.lines import SYMBOLS, Verdict, attack_name, verdict_markdown, verdicts
from pipeline.runtime import cli

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
METHODS = len(MADE)
VOID = {"meta", "link", "img", "br", "wbr"}
LABELS = {"hcp": "HCP <b>bold</b> & co", "at": "AT & half &amp;", "pcl": "PCL <script>alert(1)</script>"}


class Tags(HTMLParser):
    """Every tag with its attributes, the text, the headings and the cells of each table, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: list[list[str]] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag in ("td", "th"):
            self.tables[-1].append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1] += data
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings[-1] += data


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every made method, with labels that look like HTML and Markdown."""
    folder, item = tmp_path_factory.mktemp("profile"), made_item()
    for method, label in LABELS.items():
        item["methods"][method]["label"] = label
    make_run(folder, 60, item)
    for stage in ("tables", "figures", "cards", "report"):
        done = run_stage(stage, folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def text(profile: Path) -> str:
    return (profile / "metrics/report.html").read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Tags:
    return Tags(text)


def test_every_method_is_in_the_first_table_with_status_and_card(profile: Path, text: str, page: Tags) -> None:
    status = pd.read_csv(profile / "metrics/tables/verdict_status.csv").fillna({"note": ""})
    first, ids = page.tables[0], {attributes.get("id") for _, attributes in page.tags}
    for _, own in status.iterrows():
        place = first.index(own["label"])
        assert first[place + 1].split() == f"{SYMBOLS[own['status']]} {own['status']} {own['note']}".split()
        assert f"card-digits-{own['method']}" in ids
        assert text.count(f'<a href="#card-digits-{own["method"]}"') == 3  # names in short, table, flags
    groups = [cell for cell in first if cell and cell[0] in SYMBOLS.values() and ":" in cell]
    names = [group.split(" ", 1)[1].rsplit(" ", 1)[0].split(":")[0].rsplit(" ", 1)[0] for group in groups]
    assert [name for name in names if name in SYMBOLS] == list(dict.fromkeys(status["status"]))  # notes have colons too
    assert set(status["status"]) == set(SYMBOLS)
    assert first[:8] == ["method", "status", "clean", "paper's attack", "adaptive", "AutoAttack rapid", "robust", "flags"]
    table = pd.read_csv(profile / "metrics/tables/verdict.csv").set_index(["method", "attack"])
    shown = [table.loc["softmax_fs", attack] for attack in ("clean", "pgd", "adaptive", "autoattack", "robust")]
    texts = [(v["measured"], v["ci95_low"], v["ci95_high"]) for v in shown]
    place = first.index("SM (FS)")
    assert first[place + 2 : place + 7] == [f"{m:.1f} {low:.1f}-{high:.1f}{low:.0f}-{high:.0f}" for m, low, high in texts]


def test_the_most_robust_stand_first_within_their_status(profile: Path, page: Tags) -> None:
    status = pd.read_csv(profile / "metrics/tables/verdict_status.csv")
    table = pd.read_csv(profile / "metrics/tables/verdict.csv")
    robust = table[table["attack"] == "robust"].set_index("label")["measured"]
    for _, own in status.groupby("status"):
        places = [page.tables[0].index(label) for label in robust[list(own["label"])].sort_values(ascending=False).index]
        assert places == sorted(places)


def test_labels_are_text_whatever_they_look_like(profile: Path, text: str, page: Tags) -> None:
    assert "[HCP &lt;b>bold&lt;/b> & co](#card-digits-hcp)" in (profile / "metrics/report.md").read_text()
    assert "<b>bold" not in text
    assert "<script>alert" not in text
    assert [tag for tag, _ in page.tags].count("script") == 1
    for label in LABELS.values():
        assert sum(label in table for table in page.tables) > 2, label  # the verdict and the papers' tables


def test_the_page_needs_nothing_but_itself(text: str, page: Tags) -> None:
    for tag, attributes in page.tags:
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
            assert attributes["alt"]
        else:
            assert "src" not in attributes
        if tag == "link":
            assert attributes["href"] == "data:,"
        assert tag not in ("iframe", "object", "embed", "base", "video")
    assert not re.search(r"@import|url\(|https?://", text)
    images = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(images) == METHODS + 9
    for image in images:
        with Image.open(BytesIO(base64.b64decode(image.split(",", 1)[1]))) as opened:
            opened.load()
    assert len(text) < 3_000_000


def test_links_lead_to_something_and_ids_are_unique(page: Tags) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert ids.most_common(1)[0][1] == 1
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert len(links) > 3 * METHODS
    inside = [link for link in links if link.startswith("#")]
    assert [link for link in inside if link[1:] not in ids] == []
    assert [link for link in links if not link.startswith("#")] == []  # the page is mailed alone
    used = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(used) <= set(ids)


def test_page_and_markdown_have_the_same_headings_tables_and_cards(profile: Path, page: Tags) -> None:
    markdown = (profile / "metrics/report.md").read_text()
    headings = [re.sub(r"\\(.)", r"\1", line.lstrip("# ")) for line in re.findall(r"^#+ .*$", markdown.split("```yaml")[0], re.M)]
    headings += ["How to make this page again"]
    assert [heading.replace("&lt;", "<") for heading in headings] == page.headings
    assert len(re.findall(r"^\|:-", markdown, flags=re.MULTILINE)) == len(page.tables)
    cards = re.findall(r'^<a id="(card-[\w-]+)"></a>$', markdown, flags=re.MULTILINE)
    assert cards == [attributes["id"] for tag, attributes in page.tags if tag == "details" and "card" in (attributes["id"] or "")]
    assert len(cards) == METHODS
    linked = re.findall(r"\]\(#([\w-]+)\)", markdown)
    assert set(linked) <= set(re.findall(r'<a id="([\w-]+)"></a>', markdown))
    assert markdown.count("<details>") == markdown.count("</details>") == METHODS + 1
    assert "nan" not in markdown


def test_pictures_of_cards_are_on_the_page_alone(profile: Path, text: str) -> None:
    assert "cards/" not in (profile / "metrics/report.md").read_text()
    assert text.count("worst examples") >= METHODS  # in the text beside each picture


def test_a_card_says_what_broke_the_model_and_which_checks_warn(profile: Path) -> None:
    markdown = (profile / "metrics/report.md").read_text()
    body = markdown.split('<a id="card-digits-at"></a>')[1].split("</details>")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines() if line.startswith("| ")]
    assert ["paper, eps 0.15", "FGSM", "25.0", "71.7"] in rows  # 58 of 60 clean, 43 under FGSM
    assert ["AutoAttack, eps 0.15", "APGD-CE", "36.7", "60.0"] in rows
    assert ["", "Square", "1.7", "55.0"] in rows
    masking = pd.read_csv(profile / "data/report/masking.csv")
    results = [(row[0].split(":")[0], row[-1].partition(", near")[0]) for row in rows]
    checks = [(name, result) for name, result in results if result in ("pass", "**warn**")]
    own = masking[masking["method"] == "at"]
    assert checks == [(check, "pass" if passed else "**warn**") for check, passed in zip(own["check"], own["passed"], strict=True)]
    assert {"pass", "**warn**"} == {result for _, result in checks}
    status = pd.read_csv(profile / "metrics/tables/verdict_status.csv").set_index("method")
    assert status.loc["at", "status"] in body
    assert f"{(~own['passed']).sum()} of which warn" in body


def test_nothing_of_the_machine_is_on_the_page(profile: Path, text: str) -> None:
    markdown = (profile / "metrics/report.md").read_text()
    for found in (text, markdown):
        assert str(profile) not in found
        assert str(Path.home()) not in re.sub(r"base64,[^\"]+", "", found)
        assert "secret" not in found
        assert "server.example" not in found
        assert "milestones" in found
        assert "GiB of memory" in found
        assert f"numpy {np.__version__}" in found


def test_params_keep_everything_but_places() -> None:
    text = (
        "root: /srv/x\na: {uri: 'sqlite:////tmp/x.db', w: C:\\data\\x}  # auto | cpu / x, 1 / (1 + 0.3), a/b\nb: [~/x, data/raw]\n"
    )
    wanted = (
        "root: (left out)\na: {uri: '(left out)', w: (left out)}  # auto | cpu / x, 1 / (1 + 0.3), a/b\nb: [(left out), data/raw]\n"
    )
    assert provenance.public_params(text) == wanted
    profile = "extends: ../../params.yaml\nroot: ../..   # seen from this folder\n"
    assert provenance.public_params(profile) == profile


def test_times_are_summed_by_stage(tmp_path: Path) -> None:
    assert "no stage left its own" in provenance.times_table(tmp_path / "none")
    for item, seconds in (("a", 1.25), ("b", 2.5)):
        record = {"stage": "attack", "item": item, "seconds": seconds}
        (tmp_path / f"attack@{item}.json").write_text(json.dumps(record))
    (tmp_path / "tables.json").write_text('{"stage": "tables", "item": "", "seconds": 0.5}')
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in provenance.times_table(tmp_path).splitlines()[2:]]
    assert lines == [["attack", "2", "3.8", "2.5"], ["tables", "1", "0.5", "0.5"], ["**all**", "3", "**4.2**", "2.5"]]


def test_a_stage_leaves_its_time_and_never_fails_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr("sys.argv", ["stages/train.py", "digits", "hcp", "0"])

    def stage(dataset: str, method: str, seed: int) -> None:
        if method == "bad":
            raise ValueError("no")

    def go() -> dict[str, dict]:
        cli.run_stage(stage, dataset="", method="", seed="")
        return {path.name: json.loads(path.read_text()) for path in sorted((tmp_path / ".ckpt/times").iterdir())}

    assert {name: {**found, "seconds": 0} for name, found in go().items()} == {
        "train@digits-hcp-0.json": {"stage": "train", "item": "digits-hcp-0", "seconds": 0}
    }
    monkeypatch.setenv("DVC_STAGE", "short/dvc.yaml:finetune@digits-hcp-0")
    assert go()["finetune@digits-hcp-0.json"]["stage"] == "finetune"
    monkeypatch.setattr("sys.argv", ["stages/train.py", "digits", "bad", "0"])
    (tmp_path / ".ckpt/times/finetune@digits-hcp-0.json").unlink()
    with pytest.raises(SystemExit):
        go()
    assert [path.name for path in (tmp_path / ".ckpt/times").iterdir()] == ["train@digits-hcp-0.json"]
    shutil.rmtree(tmp_path / ".ckpt")
    (tmp_path / ".ckpt").write_text("in the way")
    monkeypatch.setattr("sys.argv", ["stages/train.py", "digits", "hcp", "0"])
    cli.run_stage(stage, dataset="", method="", seed="")


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit_text(tmp_path) == "not in a git checkout"
    for command in (["init", "-q"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert provenance.commit_text(tmp_path).endswith("code and params as committed")
    (tmp_path / "report.md").write_text("")
    assert provenance.commit_text(tmp_path).endswith("code and params as committed")  # a result is no change of code
    (tmp_path / "x.py").write_text("")
    assert provenance.commit_text(tmp_path).endswith("with uncommitted changes of code or params")


def test_the_first_lines_say_what_was_trained_on_what(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mnist.json").write_text(json.dumps({"images": {"train": 6030, "validation": 670, "test": 300}}))
    run = run_from(describe(load_params(ROOT / "params.yaml", LOOKUPS)))
    own = run.datasets["digits"]._replace(epochs={"pretrain": 5, "mixed": 9})
    text = provenance.made_sentence(run._replace(datasets={"mnist": own}, seeds=[0, 1]), tmp_path)
    assert text.startswith("Trained on mnist: small_cnn, 6,030 images, 5 pretrain, 9 mixed epochs. Seeds: 0, 1. Made at commit ")
    assert f"on {provenance.cpu_text()}, GPU: {provenance.gpu_text()}." in text


def made_verdict(tmp_path: Path, status: dict[tuple[str, str], str], labels: dict[str, str]) -> list[Verdict]:
    eps = {dataset: 0.1 for dataset, _ in status}
    write_verdict_tables(tmp_path, status, labels, eps)
    frames = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("verdict", "verdict_status")]
    return verdicts(*frames, eps)


def test_verdict_by_data_set_and_status(tmp_path: Path) -> None:
    status = {("a", "m2"): "holds", ("a", "m3"): "holds", ("a", "m1"): "does not hold", ("b", "m1"): "only looked robust"}
    first, second = made_verdict(tmp_path, status, {"m2": "M | 2"})
    assert [line.method for line in first.lines] == ["m2", "m3", "m1"]
    assert list(first.by_status()) == ["holds", "does not hold"]
    assert [line.anchor for line in second.lines] == ["card-b-m1"]
    text = verdict_markdown(first, "standard")
    assert "| [M \\| 2](#card-a-m2) | ✓ holds" in text
    assert "AutoAttack (standard)" in text
    assert "AutoAttack: standard, as published" in text
    assert "AutoAttack: rapid, weaker than the standard version" in verdict_markdown(first, "rapid")
    table = pd.read_csv(tmp_path / "verdict_status.csv").assign(status="fine")
    with pytest.raises(ValueError, match="unknown status 'fine', choose from holds"):
        verdicts(pd.read_csv(tmp_path / "verdict.csv"), table, {"a": 0.1})
    with pytest.raises(ValueError, match="have no c; run `dvc repro tables`"):
        verdicts(pd.read_csv(tmp_path / "verdict.csv"), table, {"c": 0.1})


def test_the_paper_s_attack_is_the_strongest_and_a_spread_shows_with_seeds(tmp_path: Path) -> None:
    made_verdict(tmp_path, {("a", "m"): "holds"}, {})
    table = pd.read_csv(tmp_path / "verdict.csv").assign(seeds=3, seed_std=0.84)
    table = table[table["attack"] != "adaptive"]
    status = pd.read_csv(tmp_path / "verdict_status.csv")
    ((line,),) = (v.lines for v in verdicts(table, status, {"a": 0.1}))
    assert line.cells["paper's attack"].text == "60.0 ± 0.8"  # PGD; FGSM leaves 69
    assert "adaptive" not in line.cells


def test_attacks_are_named() -> None:
    wanted = {"autoattack/fab_t": "FAB-T", "apgd_ce": "APGD-CE", "steps/1": "PGD, 1 step", "cw": "C&W", "mim": "MIM"}
    wanted |= {"steps/10": "PGD, 10 steps", "adaptive_bim": "BIM, adaptive", "autoattack_l2": "AutoAttack, l2"}
    assert {name: attack_name(name) for name in wanted} == wanted


def test_markdown_becomes_html_without_foreign_tags(tmp_path: Path) -> None:
    page = Page(tmp_path)
    table = page.markdown("| a | b |\n|:--|:--|\n| 1<br>2 | <u>x</u> &lt;i> <i onclick=x>y</i> |")
    assert "<td>1<br>2</td>" in table
    assert "<u>x</u> &lt;i&gt; &lt;i onclick=x&gt;y&lt;/i&gt;" in table
    assert '<div class="scroll"' in table
    assert "&lt;div&gt;" in page.markdown("<div>\n")
    assert re.findall(r'id="([^"]+)"', page.markdown("## A: b, c\n\n## A b c\n")) == ["a-b-c", "a-b-c-1"]


def test_montage_shows_image_perturbation_and_adversarial_image() -> None:
    clean, noise = np.full((2, 1, 8, 8), 0.5, np.float32), np.zeros((2, 1, 8, 8), np.float32)
    noise[:, :, 0, 0] = 0.15
    texts = (["3", "8"], ["8", "3"], np.array([0.9, 0.8]), ["autoattack/square"] * 2)
    picture, k = montage(Examples(clean, clean + noise, *texts))
    assert k == 3  # 0.5 / 0.15
    assert picture.shape[0] == 64
    gap = 64 // 12
    starts = [0, 64 + gap, 2 * (64 + gap)]
    np.testing.assert_allclose([picture[0, start, 0] for start in starts], [0.5, 0.5 + 3 * 0.15, 0.65], atol=1e-6)
    np.testing.assert_allclose([picture[63, start + 63, 2] for start in starts], 0.5)
    assert picture[0, 64, 0] == 1.0


def test_a_class_name_fits_above_its_example() -> None:
    assert [brief(name) for name in ("Sneaker", "Ankle boot", "automobile")] == ["Sneaker", "Ankle b…", "automob…"]
    assert len(brief("T - shirt / top")) == LONGEST


def test_a_class_whose_name_cannot_be_drawn_is_shown_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_verdict(tmp_path / "digits/hcp/0", 60, clean=58, standing=[5, 4, 4, 3], eps=0.15, examples=1)
    path = tmp_path / "digits/hcp/0/examples.npz"
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "classes": np.array([*"01234", "猫", "犬", *"789"])})
    for _ in range(2):
        shown = load_examples(tmp_path, dataset="digits", method="hcp", seed=0)
        assert (shown.label, shown.prediction) == (["no. 5"], ["no. 6"])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("examples", [0, 1, 6])
def test_card_draws_what_there_is(profile: Path, tmp_path: Path, examples: int) -> None:
    write_verdict(tmp_path / "verdict/digits/hcp/0", 60, clean=58, standing=[5, 4, 4, 3], eps=0.15, examples=examples)
    (tmp_path / "attacks").symlink_to(profile / "data/attacks")
    tables = {name: pd.read_csv(profile / f"data/report/{name}.csv") for name in ("curves", "broken")}
    card = load_card(tmp_path, tables, dataset="digits", method="hcp", seeds=[0], eps=0.15)
    assert len(card.examples.clean) == min(examples, 4)
    assert len(card.noise) == 60
    figure = card_figure(card)
    curves, broken, noise, features, shown = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in curves.lines}
    assert lines["PGD"][:2] == [[0, pytest.approx(96.67, abs=0.01)], [0.05, pytest.approx(86.67, abs=0.01)]]
    assert lines["PGD, unbounded"] == [[1, 0]]
    own = tables["broken"][(tables["broken"]["method"] == "hcp") & ~tables["broken"]["attack"].str.startswith("adaptive_")]
    assert [label.get_text() for label in broken.get_yticklabels()] == [attack_name(attack) for attack in own["attack"]]
    assert [bar.get_width() for bar in broken.patches[: len(own)]] == own["left"].tolist()
    assert sum(bar.get_height() for bar in noise.patches) == 60
    assert len(features.collections) == 10
    texts = [text.get_text() for text in shown.texts]
    assert texts[0] == "5 → 6\n99 %, APGD-CE" if examples else texts == ["worst examples: no attack broke an image"]
    without = card_figure(card._replace(noise=np.empty(0)))
    assert len(without.axes) == 4


def test_a_run_with_every_method_gives_every_figure_and_the_report(profile: Path) -> None:
    text = (profile / "metrics/report.md").read_text()
    for number in (1, 4, 5, 6, 7):
        with Image.open(profile / f"metrics/figures/pcl_figure{number}.png") as image:
            assert 600 < image.width < 4000
            assert 300 < image.height < 4000
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10
        assert f"figures/pcl_figure{number}.png" in text
    assert text.count("## PCL Table") == 10
    assert text.count("what the strongest leave stands in the verdict") == 2 + 9  # under every table of accuracy under attack
    assert max(len(line) for line in text.splitlines()) < 2000


def test_cards_are_small_pictures(profile: Path) -> None:
    files = sorted((profile / "metrics/cards/digits").glob("*.png"))
    assert len(files) == METHODS
    for file in files:
        assert file.stat().st_size < 30_000
        with Image.open(file) as image:
            assert image.mode == "P"
            assert image.width >= 550  # a column of the page


LAYOUT = """<script>addEventListener("load", () => {
  if (location.hash === "#all") document.querySelectorAll("details").forEach((card) => { card.open = true; });
  const box = (query) => { const { left, top, right, bottom } = document.querySelector(query).getBoundingClientRect();
    return [left, top, right, bottom]; };
  const found = { scroll: document.documentElement.scrollWidth, inner: innerWidth, table: box("table.verdict"),
    short: box(".short"), looked: box("tbody.only-looked-robust"), images: [...document.images].map((i) => i.naturalWidth),
    cards: [...document.querySelectorAll("details img")].map((i) => i.getBoundingClientRect().width),
    wide: [...document.querySelectorAll(".verdict td, .verdict th")].filter((c) => c.scrollWidth > c.clientWidth + 1).length };
  document.body.dataset.layout = JSON.stringify(found);
  parent.postMessage(document.body.dataset.layout, "*");
});</script>"""
FRAME = """<!doctype html><body><iframe src="page.htmlHASH" style="width:WIDTHpx;height:844px;border:0"></iframe><script>
addEventListener("message", (event) => { document.body.dataset.layout = event.data; });</script>"""


def layout(text: str, folder: Path, width: int, height: int, anchor: str) -> dict:
    """The page in a browser without a network. A phone's width only inside a frame: windows do not get that narrow."""
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome here: how the page looks was not tested")
    (folder / "page.html").write_text(text.replace("</body>", f"{LAYOUT}</body>"))
    (folder / "frame.html").write_text(FRAME.replace("HASH", anchor).replace("WIDTH", str(width)))
    start = f"file://{folder}/frame.html" if width < 500 else f"file://{folder}/page.html{anchor}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += [
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=25000",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    flags += [f"--user-data-dir={folder}/browser", f"--window-size={max(width, 500)},{height}", "--dump-dom", start]
    done = subprocess.run([BROWSER, *flags], capture_output=True, text=True, check=True, timeout=120)
    (found,) = [dict(a)["data-layout"] for tag, a in Tags(done.stdout).tags if tag == "body"]
    return json.loads(found or "")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("anchor", ["", "#all"])
def test_a_browser_shows_the_verdict_first_and_never_scrolls_sideways(text: str, tmp_path: Path, width: int, anchor: str) -> None:
    found = layout(text, tmp_path, width, 800, anchor)
    assert found["inner"] in (width, width - 15)  # a scroll bar
    assert found["scroll"] <= found["inner"]
    assert min(found["images"]) > 100
    assert found["wide"] == 0
    if anchor:
        assert len(found["cards"]) == METHODS
        points = TEXT - 1  # the smallest of a card's picture, which is WIDTH inches wide
        assert min(found["cards"]) / WIDTH * points / 72 >= 8  # pixels
    assert found["table"][2] <= width
    assert found["short"][3] < 844  # which method has which status
    if width > 1000:
        assert found["table"][1] < 200
        assert found["looked"][3] < 800
    else:
        assert found["table"][1] < 700
