"""The report on one model that stages.evaluate judged, of the same make as the pipeline's: verdict, card, how it was made."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.reporting.files import read_table
from pipeline.reporting.markdown import markdown_table, markdown_text
from pipeline.reporting.outcomes import LINF
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.provenance import made_table
from pipeline.reporting.page.report import Report, Section, models_section, report_markdown
from pipeline.reporting.run import Run, run_from
from pipeline.reporting.verdict.cards import save_cards
from pipeline.reporting.verdict.lines import Verdict, anchor, verdicts
from pipeline.reporting.verdict.status import HOLDS
from pipeline.reporting.write import write_verdict
from pipeline.runtime.sums import write_sums

NORMS = {"linf": "l-inf", "l2": "l2"}
ALONE = (
    "No undefended model was judged beside it, so a status compares with chance alone: at a small eps a network without any "
    "defence holds too. Judge one at the same eps to compare."
)
LEVELS = {"ok": "", "note": "**note**", "stop": "**taken as it is (--force)**"}


def write_report(out: Path) -> str:
    """out: the folder with outcomes.parquet, checks.json, examples.npz and features.npz. Writes report.md, report.html and the
    card's picture there; returns the verdict in a line."""
    content = json.loads((out / "checks.json").read_text(encoding="utf-8"))
    about = content["about"]
    run = described(about)
    (dataset,) = run.datasets
    with tempfile.TemporaryDirectory() as folder:
        data, metrics = Path(folder, "data"), Path(folder, "metrics")
        laid_out(out, data, run, content["masking"])
        written = metrics / "tables", data / "report"
        for place in written:
            place.mkdir(parents=True)
        write_verdict(run, data, metrics)
        for place in written:
            write_sums(place)
        save_cards(run, data, out / "cards")
        tables = {name: read_table(data / "report" / f"{name}.csv") for name in ("broken", "masking")}
        tables["verdict"] = read_table(metrics / "tables/verdict.csv")
        (own,) = verdicts(tables["verdict"], read_table(metrics / "tables/verdict_status.csv"), {dataset: about["eps"]})
    lines = [line._replace(group="Given model") for line in own.lines]
    found = [own._replace(norm=NORMS[about["norm"]], lines=lines)]
    page = page_of(about, content["findings"], run, found, tables)
    (out / "report.md").write_text(report_markdown(page), encoding="utf-8")
    (out / "report.html").write_text(Page(out).render(page), encoding="utf-8")
    return in_a_line(found[0], out)


def described(about: dict[str, Any]) -> Run:
    """As the item files describe a run: one data set, one method."""
    dataset, method = anchor(Path(about["data"]).stem) or "data", anchor(about["name"]) or "model"
    strengths = {
        "eps": [about["eps"] / 2, about["eps"]],
        "sweep": [],
        "c": [],
        "table_eps": about["eps"],
        "table_c": 0.0,
        "norm": about["norm"],
    }
    kind = {"features": False, "adversarial": False, "other": True}  # nothing is known of it
    return run_from(
        {
            "root": ".",
            "seeds": [0],
            "datasets": {dataset: {**strengths, "headline_eps": about["eps"], "epochs": {}}},
            "methods": {method: {"label": about["name"], "papers": [], "published": None, "kind": kind}},
            "sources": {},
            "transfer": [],
            "noise_stop": ["sample"],
            "cw": {},
            "autoattack": {
                "version": about["autoattack"],
                "parts": {part: choice["name"] for part, choice in about["parts"].items()},
            },
            "statistics": {"alpha": 0.1, "compare": []},
            "planes": [],
            "cost": [],
            "lacks": [],
        }
    )


def laid_out(out: Path, data: Path, run: Run, masking: dict[str, float]) -> None:
    """The files of `out` as stage attack leaves them: the papers' attacks in data/attacks, the rest in data/verdict."""
    (dataset,), (method,), (seed,) = run.datasets, run.methods, run.seeds
    attacks, verdict = (data / stage / dataset / method / str(seed) for stage in ("attacks", "verdict"))
    attacks.mkdir(parents=True)
    verdict.mkdir(parents=True)
    outcomes = pd.read_parquet(out / "outcomes.parquet")
    outcomes[outcomes["attack"].isin(("clean", *LINF))].to_parquet(attacks / "outcomes.parquet", index=False)
    outcomes[~outcomes["attack"].isin(LINF)].to_parquet(verdict / "outcomes.parquet", index=False)
    shutil.copy(out / "features.npz", attacks)
    shutil.copy(out / "examples.npz", verdict)
    (verdict / "checks.json").write_text(json.dumps(masking))


def page_of(
    about: dict[str, Any], findings: list[dict[str, str]], run: Run, found: list[Verdict], tables: dict[str, pd.DataFrame]
) -> Report:
    rows = [{"": finding["name"], "found": markdown_text(finding["text"]), " ": LEVELS[finding["level"]]} for finding in findings]
    shown = {name: value for name, value in about.items() if name != "parts" and value not in (None, [], {}, "")}
    settings = [{"": name, "value": markdown_text(_text(value))} for name, value in shown.items()]
    before = Section("before", "Beforehand", ["## What was seen beforehand", markdown_table(pd.DataFrame(rows))])
    made = Section(
        "made",
        "How it was made",
        ["## How it was made", markdown_table(pd.DataFrame(settings)), made_table([int(about["seed"])])],
    )
    norm = NORMS[about["norm"]]
    sentence = (
        f"{about['name']} on {about['images']} test images of {Path(about['data']).name}, attacked in {norm} with eps "
        f"{about['eps']:.6g} by AutoAttack ({about['autoattack']}) and by attacks that know the model. {ALONE}"
    )
    sections = [before, models_section(found, tables), made]
    return Report(f"{about['name']}: what holds under attack", sentence, about["autoattack"], found, sections)


def in_a_line(verdict: Verdict, out: Path) -> str:
    (line,) = verdict.lines
    numbers = ", ".join(f"{column} {cell.text} %" for column, cell in line.cells.items())
    flags = f"; {line.flags} sign{'s' if line.flags != 1 else ''} of masked gradients" if line.flags else ""
    note = f" ({line.note})" if line.note else ""
    alone = f"\n{ALONE}" if line.status == HOLDS else ""
    return f"{line.label}: {line.status}{note}; {numbers}{flags}{alone}\n{out / 'report.html'}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(own)}" for name, own in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
