"""metrics/report.md: the verdict, then for each paper its findings, tables, figures and statistics, all from metrics/."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.findings import FAILS, HOLDS, MISSING, OPEN, UNSURE, WEAK, Finding, hcp_findings
from pipeline.reporting.markdown import markdown_table
from pipeline.reporting.outcomes import Strengths
from pipeline.reporting.pcl_findings import pcl_findings
from pipeline.reporting.published import load_published, published_value
from pipeline.reporting.statistics_text import read_statistics, scalar

HCP_TABLES = (1, 2, 3, 4)
PCL_TABLES = (3, 4, 5, 6, 7, 8, 9, 11, 12, 13)
HCP_FIGURES = {
    "hcp_figure2.png": (
        "HCP figure 2: noise of the unbounded attack, per image. Box: quartiles, whiskers: 5 and 95 %, line: median, diamond: "
        "mean; red: methods with the HCP loss."
    ),
    "hcp_figure3.png": "HCP figure 3: first two principal components of the final layer's features, clean test images, first seed.",
    "hcp_critical_difference.png": "Critical difference: mean ranks, best on the left; a bar joins methods that do not differ.",
}
PCL_FIGURES = {
    "pcl_figure1.png": (
        "PCL figure 1: a penultimate layer of two neurons, trained for this figure, first seed. Points: clean test images; lines "
        "lead from some of them to their PGD twins, which are hollow where they are misclassified."
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
    "What the paper claims, against the measured values: *holds* or *does not hold* when the 95 % intervals lie apart, *within "
    f"the 95 % interval* when they overlap, *no interval* where one batch gives one value, *{WEAK}* where an attack that knows the "
    "prototypes leaves more images right than the usual one: it is the worse attack, and no sign of robustness. Bracketed: the "
    "interval. Claims without an eps are judged at that of the first table. The interval covers the choice of test images "
    "only, for times it is the range over repeats; how much another training run would differ is the spread over seeds in the "
    "tables."
)


class Run(NamedTuple):
    """What was run. epochs: a sentence for each paper, `schedule_text`; strengths: by data set; labels: by method; discrepancies:
    path of that page, seen from the report."""

    datasets: list[str]
    seeds: list[int]
    strengths: dict[str, Strengths]
    labels: dict[str, str]
    hcp_epochs: str
    pcl_epochs: str
    discrepancies: str


def intro(run: Run) -> str:
    return (
        "This page sets the results of two papers, on hyperspherical class prototypes (HCP) and on the prototype conformity loss "
        "(PCL), against what this pipeline measures: every method trained under one protocol and attacked by one set of attacks, "
        "with the published value beside the measured one. "
        f"Data sets: {', '.join(run.datasets)}. Seeds: {', '.join(str(seed) for seed in run.seeds)}. "
        f"HCP: {run.hcp_epochs} PCL: {run.pcl_epochs} Where the PCL paper and its released code differ, and what is done here: "
        f"[docs/discrepancies.md]({run.discrepancies})."
    )


def warning(published: pd.DataFrame) -> str:
    stated, kept = (
        published_value(published, paper="robustbench", variant="Mustafa2019", attack=attack)
        for attack in ("reported", "autoattack")
    )
    return (
        "> **This is not the last word.** No AutoAttack is in this pipeline yet, so every accuracy under attack is an upper bound "
        f"on robustness. The released PCL model fell from {stated:.2f} % to {kept:.2f} % under AutoAttack (RobustBench, "
        "Mustafa2019)."
    )


def findings_part(paper: str, findings: list[Finding]) -> str:
    """A table per data set: claim, verdict, measured, published."""
    parts = [f"## {paper}: findings", FINDINGS_TEXT]
    for dataset in dict.fromkeys(finding.dataset for finding in findings):
        own = [finding for finding in findings if finding.dataset == dataset]
        verdicts = [finding.verdict for finding in own]
        counts = {verdict: verdicts.count(verdict) for verdict in (HOLDS, OPEN, FAILS, WEAK, UNSURE, MISSING)}
        parts.append(f"### {dataset}")
        parts.append("In short: " + ", ".join(f"{verdict}: {n}" for verdict, n in counts.items() if n) + ".")
        rows = [{"claim": f.claim, "verdict": f"**{f.verdict}**", "measured": f.measured, "paper": f.paper} for f in own]
        parts.append(markdown_table(pd.DataFrame(rows)))
    return "\n\n".join(parts)


def figures_part(metrics: Path, paper: str, figures: dict[str, str]) -> str:
    parts = [f"## {paper}: figures"]
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


def tables_part(metrics: Path, names: list[str]) -> list[str]:
    return [(metrics / "tables" / f"{name}.md").read_text().rstrip() for name in names]


def read_tables(metrics: Path, paper: str, numbers: tuple[int, ...]) -> dict[int, pd.DataFrame]:
    """The long CSV files by number of the table."""
    return {number: pd.read_csv(metrics / "tables" / f"{paper}_table{number}.csv") for number in numbers}


def report(metrics: Path, run: Run) -> str:
    """The whole page from the files in `metrics`."""
    published = load_published()
    statistics = read_statistics(metrics / "tables" / "hcp_statistics.csv")
    headline_eps = {dataset: own.headline_eps for dataset, own in run.strengths.items()}
    headline_c = {dataset: own.headline_c for dataset, own in run.strengths.items()}
    sweep = pd.read_csv(metrics / "tables" / "pcl_figure7.csv")
    hcp = hcp_findings(read_tables(metrics, "hcp", HCP_TABLES), headline_eps, run.labels)
    pcl = pcl_findings(read_tables(metrics, "pcl", PCL_TABLES), sweep, headline_eps, headline_c, run.labels)
    parts = [
        "# Prototype defences, HCP and PCL: published and measured",
        intro(run),
        *tables_part(metrics, ["verdict"]),
        warning(published),
        findings_part("HCP", hcp),
        findings_part("PCL", pcl),
        *tables_part(metrics, [f"hcp_table{number}" for number in HCP_TABLES]),
        figures_part(metrics, "HCP", HCP_FIGURES),
        *tables_part(metrics, ["hcp_statistics"]),
        *tables_part(metrics, [f"pcl_table{number}" for number in PCL_TABLES]),
        figures_part(metrics, "PCL", PCL_FIGURES),
        misprints_part(statistics, published),
        "## How to make this page again",
        "`dvc repro` in the folder of params.yaml re-runs whatever changed, this page last.",
    ]
    return "\n\n".join(parts) + "\n"
