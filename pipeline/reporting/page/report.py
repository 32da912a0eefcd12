"""What the report says, part by part: the verdict, a card a model, for each paper its findings, tables, statistics and figures,
then how it was made. metrics/report.md is made of it here, metrics/report.html in html.py."""

import html
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.files import read_table, read_text
from pipeline.reporting.findings import FAILS, HOLDS, MISSING, OPEN, UNSURE, WEAK, Finding
from pipeline.reporting.hcp.findings import hcp_findings
from pipeline.reporting.hcp.statistics_text import read_statistics, scalar
from pipeline.reporting.markdown import labels_in_markdown, markdown_table, markdown_text, names_in_markdown, schedule_text
from pipeline.reporting.page.card_text import card_body, card_picture
from pipeline.reporting.page.provenance import made_sentence, made_table, public_params, times_table
from pipeline.reporting.pcl.findings import pcl_findings
from pipeline.reporting.published import load_published, paper_rows, published_epochs, published_value
from pipeline.reporting.run import Run
from pipeline.reporting.verdict.lines import SYMBOLS, Line, Verdict, verdict_markdown, verdicts
from pipeline.reporting.verdict.prototypes import prototypes_markdown

OVERVIEW = {
    "overview.png": (
        "Published accuracy under the strongest l-inf attack of HCP tables 2 and 4 (which have no PGD) and PCL table 3, on "
        "CIFAR-10 if they do not have the data set; measured accuracy under the strongest of FGSM, BIM, MIM and PGD, and under "
        "AutoAttack. A dark line joins the values that the two papers give for one method. Without a diamond: no "
        "published value, but above chance under AutoAttack."
    ),
}
HCP_FIGURES = {
    "hcp_figure2.png": (
        "HCP figure 2: noise of the unbounded attack, per image. Box: quartiles, whiskers: 5 and 95 %, line: median, diamond: "
        "mean; red: the paper's models with the HCP loss."
    ),
    "hcp_figure3.png": "HCP figure 3: first two principal components of the final layer's features, clean test images, first seed.",
    "hcp_critical_difference.png": "Critical difference: mean ranks, best on the left; a bar joins methods that do not differ.",
}
PCL_FIGURES = {
    "pcl_figure1.png": (
        "PCL figure 1: a penultimate layer of two neurons, trained for this figure, first seed. Points: clean test images; lines "
        "lead from some of them to their PGD images, which are hollow where they are misclassified."
    ),
    "pcl_figure4.png": "PCL figure 4: t-SNE of the last layer's features, clean test images, first seed.",
    "pcl_figure5.png": "PCL figure 5: t-SNE of the features at layers of different depth, clean test images, first seed.",
    "pcl_figure6.png": (
        "PCL figure 6: the two neurons of figure 1 after different epochs, with the clean accuracy; stars: class centres. Mind the "
        "scale of each panel."
    ),
    "pcl_figure7.png": "PCL figure 7: accuracy against eps; at eps 0 that of clean images.",
}
FINDINGS_TEXT = (
    "What the paper claims, against the measured values: *holds* or *does not hold* when the 95 % interval of the difference lies "
    f"on one side of the claim, *{OPEN}* when it lies on both, *no interval* where one batch gives one value, *{WEAK}* where an "
    "attack with knowledge of the prototypes leaves more images right than the usual one: the attack is weaker, not the model more "
    "robust. In brackets: the interval of a value. It covers the choice of test images and, with several seeds, that of the seeds; "
    "for times it is the range over repeats. Claims without an eps are checked at that of the paper's table, on other data "
    "sets at the eps of `evaluation.table` in params.yaml."
)


class Details(NamedTuple):
    """A part that is closed until a reader opens it. status: that of a model, or nothing; picture: shown in report.html alone,
    since the pictures are not in git."""

    anchor: str
    title: str
    status: str
    text: str
    body: str
    picture: str = ""


class Section(NamedTuple):
    """parts: Markdown. name: how the list of contents calls it."""

    anchor: str
    name: str
    parts: list[str | Details]


class Report(NamedTuple):
    """The first screen, then sections. made: what was trained on what, where; below the verdict on the page, so that it comes first
    there."""

    title: str
    sentence: str
    autoattack: str
    verdicts: list[Verdict]
    sections: list[Section]
    made: str = ""


def run_part(run: Run, published: pd.DataFrame) -> str:
    epochs = {name: own.epochs for name, own in run.datasets.items()}
    hcp, pcl = (schedule_text(epochs, published_epochs(published, paper)) for paper in ("hcp", "pcl"))
    discrepancies = Path("..", run.root, "docs/discrepancies.md").as_posix()
    text = (
        "Every method is trained under one protocol and attacked by one set of attacks; tables set the published value beside the "
        f"measured one. Data sets: {', '.join(run.datasets)}. Seeds: {', '.join(str(seed) for seed in run.seeds)}. "
        f"HCP: {hcp} PCL: {pcl} Where the PCL paper and its released code differ, and what is done here: "
        f"[docs/discrepancies.md]({discrepancies})."
    )
    return "\n\n".join([text, *(["This run leaves out:", "\n".join(f"- {line}" for line in run.lacks)] if run.lacks else [])])


def warning(published: pd.DataFrame) -> str:
    stated, kept = (
        published_value(published, paper="robustbench", variant="Mustafa2019", attack=attack)
        for attack in ("reported", "autoattack")
    )
    return (
        f"> **Why this page begins with AutoAttack.** The released PCL model fell from {stated:.2f} % to {kept:.2f} % under it "
        "(RobustBench, Mustafa2019). A robust accuracy is an upper bound: a stronger attack may leave less."
    )


def card(verdict: Verdict, line: Line, tables: dict[str, pd.DataFrame]) -> Details:
    numbers = [f"{column} {line.cells[column].text} %" for column in ("clean", "robust") if column in line.cells]
    return Details(
        line.anchor, line.label, line.status, ", ".join(numbers), card_body(verdict, line, tables), card_picture(verdict, line)
    )


def models_section(found: list[Verdict], tables: dict[str, pd.DataFrame]) -> Section:
    parts: list[str | Details] = ["## Models", "One card per model, in the order of the verdict. Open one to see what breaks it."]
    for verdict in found:
        parts += [f"### {verdict.dataset}", *(card(verdict, line, tables) for line in verdict.lines)]
    return Section("models", "Models", parts)


def made_section(seeds: list[int], params_text: str, times: Path) -> Section:
    """params_text: of params.yaml; times: folder of the stages' times."""
    shown = public_params(params_text).rstrip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))  # more than stand in it
    params = Details("params", "params.yaml", "", "every value of this run", f"{fence}yaml\n{shown}\n{fence}")
    parts: list[str | Details] = [
        "## How it was made",
        made_table(seeds),
        "Run time on this machine of the last process of each item, summed by stage, without Python start-up:",
        times_table(times),
        params,
        "## How to make this page again",
        "`dvc repro` in the folder of params.yaml re-runs whatever changed, this page last.",
    ]
    return Section("made", "How it was made", parts)


def findings_parts(paper: str, findings: list[Finding]) -> list[str | Details]:
    """A table per data set: claim, verdict, measured, published. Below it, closed, the claims that this run says nothing about."""
    parts: list[str | Details] = [f"## {paper}: findings", FINDINGS_TEXT]
    for dataset in dict.fromkeys(finding.dataset for finding in findings):
        own = [finding for finding in findings if finding.dataset == dataset]
        verdicts = [finding.verdict for finding in own]
        counts = {verdict: verdicts.count(verdict) for verdict in (HOLDS, OPEN, FAILS, WEAK, UNSURE, MISSING)}
        parts.append(f"### {dataset}")
        parts.append("In short: " + ", ".join(f"{verdict}: {n}" for verdict, n in counts.items() if n) + ".")
        rows = [
            {"claim": f.claim, "verdict": f"**{f.verdict}**", "measured": f.measured, "paper": f.paper}
            for f in own
            if f.verdict != MISSING
        ]
        if rows:
            parts.append(markdown_table(pd.DataFrame(rows)))
        if missing := [f"- {f.claim}" for f in own if f.verdict == MISSING]:
            anchor, title = f"{paper.lower()}-{dataset}-not-measured", f"Not measured: {len(missing)}"
            parts.append(Details(anchor, title, "", "claims about what this run leaves out", "\n".join(missing)))
    return parts


def figures_part(metrics: Path, title: str, figures: dict[str, str]) -> str:
    parts = [f"## {title}"]
    for name, text in figures.items():
        if (metrics / "figures" / name).is_file():
            parts += [f"![{text}](figures/{name})", f"*{text}*"]
    return "\n\n".join(parts)


def misprints_part(statistics: pd.DataFrame, published: pd.DataFrame) -> str:
    """What the papers contradict themselves in; published.csv keeps it as printed."""
    at = {"paper": "hcp", "dataset": "svhn", "key": "at", "attack": "bim"}
    table2, table4 = (published_value(published, table=table, **at) for table in ("2", "4"))
    cw = {"paper": "pcl", "dataset": "cifar10", "method": "pcl+at-fgsm", "setting": "white-box", "attack": "cw"}
    table3, table5 = (published_value(published, table=table, budget=0.1, **cw) for table in ("3", "5"))
    n, df = scalar(statistics, "published", "blocks"), scalar(statistics, "published", "df")
    table8, plain, trained = (
        published_value(published, paper="pcl", dataset="cifar100", attack="clean", table=table, key=key)
        for table, key in (("8", "pcl_deep"), ("3", "pcl_deep"), ("3", "pcl_at_pgd"))
    )
    lines = [
        f"- HCP tables 2 and 4 give AT on SVHN under BIM as {table2:.2f} and {table4:.2f}.",
        f"- HCP section 5.3 counts ({n:.0f} - 1) x {df:.0f} = {(n - 1) * df:.0f} degrees of freedom; the test has {df:.0f}.",
        f"- PCL table 3 gives {table3:g} where table 5 gives {table5:g} (CIFAR-10, PCL with FGSM training, C&W with c = 0.1).",
        f"- PCL table 8 compares one model with ATDA; its clean accuracy on CIFAR-100, {table8:.1f}, is that of the model without "
        f"adversarial training ({plain:.2f} in table 3, {trained:.2f} with), on CIFAR-10 that of the one trained on PGD images; on "
        "SVHN and Fashion-MNIST the two round to the same.",
    ]
    return "\n\n".join(["## Known misprints in the papers", "\n".join(lines)])


def read_tables(path: Path) -> dict[int, pd.DataFrame]:
    """A paper's long CSV file by number of the table."""
    rows = labels_in_markdown(read_table(path).fillna({"method": "", "key": ""}))
    return {int(str(number)): table for number, table in rows.groupby("table")}


def findings_section(run: Run, tables: Path, published: pd.DataFrame) -> Section:
    table_eps = {name: own.table_eps for name, own in run.datasets.items()}
    table_c = {name: own.table_c for name, own in run.datasets.items()}
    hcp = hcp_findings(read_tables(tables / "hcp.csv"), table_eps, names_in_markdown(paper_rows(run, "hcp").names))
    sweep, cost = (labels_in_markdown(read_table(tables / f"{name}.csv")) for name in ("pcl_figure7", "cost"))
    of_pcl = {**read_tables(tables / "pcl.csv"), 12: cost}
    pcl = pcl_findings(of_pcl, sweep, table_eps, table_c, names_in_markdown(paper_rows(run, "pcl").names))
    parts: list[str | Details] = ["## What was run", run_part(run, published), warning(published)]
    return Section("findings", "Findings", [*parts, *findings_parts("HCP", hcp), *findings_parts("PCL", pcl)])


def report(run: Run, metrics: Path, data: Path, params_text: str, times: Path) -> Report:
    """The whole page. data: the folder of report/; params_text: of params.yaml; times: folder of the stages' times."""
    published, tables = load_published(), metrics / "tables"
    statistics = read_statistics(tables / "hcp_statistics.csv")
    of_models = {name: read_table(data / "report" / f"{name}.csv") for name in ("broken", "masking")}
    of_models["verdict"] = read_table(tables / "verdict.csv")
    headline_eps = {name: own.headline_eps for name, own in run.datasets.items()}
    found = verdicts(of_models["verdict"], read_table(tables / "verdict_status.csv"), headline_eps)
    hcp, pcl = (read_text(tables / f"{paper}.md").rstrip() for paper in ("hcp", "pcl"))
    misprints = misprints_part(statistics, published)
    sections = [
        Section("overview", "Published and measured", [figures_part(metrics, "Published and measured", OVERVIEW)]),
        models_section(found, of_models),
        findings_section(run, tables, published),
        Section("prototypes", "Prototypes", [prototypes_markdown(read_table(tables / "prototypes.csv"))]),
        Section("hcp", "HCP paper", [hcp, figures_part(metrics, "HCP: figures", HCP_FIGURES)]),
        Section("pcl", "PCL paper", [pcl, figures_part(metrics, "PCL: figures", PCL_FIGURES), misprints]),
        made_section(run.seeds, params_text, times),
    ]
    sentence = (
        f"{len(run.methods)} methods, those of two papers on class prototypes (HCP, PCL) and what they are compared with, attacked "
        "as the papers did, by adaptive attacks, and by AutoAttack."
    )
    return Report(
        "Prototype defences: what holds under attack", sentence, run.autoattack, found, sections, made_sentence(run, metrics)
    )


def markdown_part(part: str | Details) -> str:
    """A fold is HTML that git hosts show."""
    if isinstance(part, str):
        return part
    status = f" {SYMBOLS[part.status]} {part.status}:" if part.status else ""
    title, text = (html.escape(name).replace("$", "&#36;") for name in (part.title, part.text))  # git hosts set formulas in $
    summary = f"<summary><b>{title}</b>{status} {text}</summary>"
    return f'<a id="{part.anchor}"></a>\n<details>{summary}\n\n{part.body}\n\n</details>'


def report_markdown(page: Report) -> str:
    first = [f'<a id="{v.anchor}"></a>\n\n{verdict_markdown(v, page.autoattack)}' for v in page.verdicts]
    parts = [markdown_part(part) for section in page.sections for part in section.parts]
    return (
        "\n\n".join([f"# {markdown_text(page.title)}", markdown_text(f"{page.sentence} {page.made}".strip()), *first, *parts])
        + "\n"
    )
