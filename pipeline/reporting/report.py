"""metrics/report.md: the verdict, the findings, then every table, figure and statistic of metrics/ on one page."""

import json
from pathlib import Path

import pandas as pd

from pipeline.reporting.findings import FAILS, HOLDS, MISSING, OPEN, UNSURE, Finding, hcp_findings
from pipeline.reporting.markdown import markdown_table
from pipeline.reporting.published import load_published, published_value
from pipeline.reporting.statistics_text import read_statistics, scalar

FIGURES = {
    "hcp_figure2.png": (
        "HCP figure 2: noise of the unbounded attack, per image. Box: quartiles, whiskers: 5 and 95 %, line: median, diamond: "
        "mean; red: methods with the HCP loss."
    ),
    "hcp_figure3.png": "HCP figure 3: first two principal components of the final layer's features, clean test images, first seed.",
    "hcp_critical_difference.png": "Critical difference: mean ranks, best on the left; a bar joins methods that do not differ.",
}


def read_tables(metrics: Path) -> dict[int, pd.DataFrame]:
    """The four tables by number, as `hcp_tables` wrote them."""
    return {number: pd.read_csv(metrics / "tables" / f"hcp_table{number}.csv") for number in (1, 2, 3, 4)}


def intro(clean: pd.DataFrame, datasets: list[str], seeds: list[int], schedule: str) -> str:
    """clean: table 1."""
    unknown = [name for name in datasets if clean.loc[clean["dataset"] == name, "published"].isna().all()]
    missing = f" (not in the paper: {', '.join(unknown)})" if unknown else ""
    return (
        "This page sets the results of the paper on hyperspherical class prototypes (HCP) against what this pipeline measures: "
        "every method trained under one protocol, attacked white-box, with the published value beside the measured one. "
        f"Data sets: {', '.join(datasets)}{missing}. "
        f"Seeds: {', '.join(str(seed) for seed in seeds)}. {schedule}"
    )


def warning(published: pd.DataFrame) -> str:
    stated, kept = (
        published_value(published, paper="robustbench", variant="Mustafa2019", attack=attack)
        for attack in ("reported", "autoattack")
    )
    return (
        "> **This is not the last word.** No AutoAttack and no attack that knows the prototypes is in this pipeline "
        "yet, so every accuracy under attack is an upper bound on robustness. A similar published defence, the released "
        f"PCL model, fell from {stated:.2f} % to {kept:.2f} % under AutoAttack (RobustBench, Mustafa2019)."
    )


def verdict_rows(values: dict[str, dict[str, float]], labels: dict[str, str]) -> pd.DataFrame:
    """values: one data set of summary.json. The strongest attack is the one that leaves the least accuracy, chosen per method."""
    rows = []
    for method, of_method in values.items():
        attacks = {name: value for name, value in of_method.items() if name not in ("clean", "noise_mse")}
        worst = min(attacks, key=lambda name: attacks[name]) if attacks else ""
        noise = of_method.get("noise_mse")
        rows.append(
            {
                "method": labels.get(method, method),
                "clean": f"{of_method['clean']:.2f}",
                "strongest measured attack": f"{attacks[worst]:.2f} ({worst.upper()})" if worst else "-",
                "noise MSE": "-" if noise is None else f"{noise:.4f}",
            }
        )
    return pd.DataFrame(rows)


def verdict_part(summary: dict[str, dict[str, dict[str, float]]], headline_eps: dict[str, float], labels: dict[str, str]) -> str:
    parts = ["## In short"]
    for dataset, values in summary.items():
        parts.append(
            f"**{dataset}**: accuracy in %, clean and under the attack that leaves least at eps {headline_eps[dataset]:g}; mean "
            "noise that the unbounded attack needs (table 3; stop rule `sample` where it was measured)."
        )
        parts.append(markdown_table(verdict_rows(values, labels)))
    return "\n\n".join(parts)


def findings_part(findings: list[Finding]) -> str:
    """A table per data set: claim, verdict, measured, published."""
    parts = [
        "## Findings",
        "What the paper claims, against the measured values: *holds* or *does not hold* when the 95 % intervals lie apart, *within "
        "the 95 % interval* when they overlap, *no interval* where one batch gives one value. Bracketed: the interval. FGSM is "
        "compared with the iterative attacks at the eps of the table above. The interval covers the choice of test images only; "
        "how much another training run would differ is the spread over seeds in the tables below.",
    ]
    for dataset in dict.fromkeys(finding.dataset for finding in findings):
        own = [finding for finding in findings if finding.dataset == dataset]
        verdicts = [finding.verdict for finding in own]
        counts = {verdict: verdicts.count(verdict) for verdict in (HOLDS, OPEN, FAILS, UNSURE, MISSING)}
        parts.append(f"### {dataset}")
        parts.append("In short: " + ", ".join(f"{verdict}: {n}" for verdict, n in counts.items() if n) + ".")
        rows = [{"claim": f.claim, "verdict": f"**{f.verdict}**", "measured": f.measured, "paper": f.paper} for f in own]
        parts.append(markdown_table(pd.DataFrame(rows)))
    return "\n\n".join(parts)


def figures_part(metrics: Path) -> str:
    parts = ["## Figures"]
    for name, text in FIGURES.items():
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
    lines = [
        f"- HCP tables 2 and 4 give AT on SVHN under BIM as {table2:.2f} and {table4:.2f}.",
        f"- HCP section 5.3 counts ({n:.0f} - 1) x {df:.0f} = {(n - 1) * df:.0f} degrees of freedom; the test has {df:.0f}.",
        f"- PCL table 3 gives {table3:g} where table 5 gives {table5:g} (CIFAR-10, PCL with FGSM training, C&W with c = 0.1).",
    ]
    return "\n\n".join(["## Known misprints in the papers", "\n".join(lines)])


def hcp_report(
    metrics: Path, *, datasets: list[str], seeds: list[int], headline_eps: dict[str, float], schedule: str, labels: dict[str, str]
) -> str:
    """The whole page from the files in `metrics`. headline_eps: by data set that was run; schedule: `schedule_text`."""
    published = load_published()
    summary = json.loads((metrics / "summary.json").read_text())
    statistics = read_statistics(metrics / "tables" / "hcp_statistics.csv")
    tables = read_tables(metrics)
    parts = [
        "# Hyperspherical class prototypes: published and measured",
        intro(tables[1], datasets, seeds, schedule),
        verdict_part(summary, headline_eps, labels),
        warning(published),
        findings_part(hcp_findings(tables, headline_eps)),
        *[(metrics / "tables" / f"hcp_table{number}.md").read_text().rstrip() for number in tables],
        figures_part(metrics),
        (metrics / "tables" / "hcp_statistics.md").read_text().rstrip(),
        misprints_part(statistics, published),
        "## How to make this page again",
        "`dvc repro` in the folder of params.yaml re-runs whatever changed, this page last.",
    ]
    return "\n\n".join(parts) + "\n"
