"""REPRODUCTION.md: what was run, what it says to the claims of both papers, and how far each table is from the published one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.reporting.files import read_record, read_table
from pipeline.reporting.findings import HOLDS, order, value_of
from pipeline.reporting.markdown import labels_in_markdown, markdown_table, name_attack
from pipeline.reporting.pcl.tables import WHITE_BOX
from pipeline.reporting.published import NAMES, schedules
from pipeline.reporting.reproduction.claims import TABLES, VERDICT, WEAKER, answers, rows_of
from pipeline.reporting.reproduction.coverage import Measured, Needs, coverage, figures, not_here
from pipeline.reporting.verdict.outcomes import ADAPTIVE_SUITE, AUTOATTACK, ROBUST
from pipeline.reporting.verdict.status import papers_attack, row_of

NEAR = ("reproduced", "reduced_near")
Pick = Callable[[pd.DataFrame], pd.Series | None]
ATTACKS: dict[str, Pick] = {  # columns: their row in verdict.csv
    "clean": partial(row_of, attack="clean"),
    "paper's attack": papers_attack,
    "adaptive": partial(row_of, attack=ADAPTIVE_SUITE),
    "AutoAttack": partial(row_of, attack=AUTOATTACK),
    "robust": partial(row_of, attack=ROBUST),
}
CW_COLUMNS = {  # of cw_steps.csv
    **{"dataset": "data set", "method": "method", "c": "c", "images": "images"},
    **{"accuracy_run": "run's steps", "accuracy_paper": "paper's steps"},
    **{"only_run": "only the run's break", "only_paper": "only the paper's break"},
}


def reproduction_markdown(published: pd.DataFrame, runs: Sequence[Measured], rest: Needs, benchmarks: Path) -> str:
    """runs: those that have no tables are passed over; rest: as in `coverage_markdown`; benchmarks: their results,
    a folder a machine."""
    have, table = [run for run in runs if run.tables.is_dir()], coverage(published, runs)
    parts = [
        "# Reproduction",
        "Written by `python -m stages.coverage` from the tables of the runs; intervals are in each run's `metrics/tables`. "
        "[metrics/coverage.md](metrics/coverage.md) counts what is reproduced, and defines the tolerance.",
        "## What was run",
        markdown_table(pd.DataFrame([line for run in have for line in _run_lines(run, published)])),
        "PCL table 3 uses images made on the source network, table 13 also images of two defended models; a full-size VGG-19 has "
        "width 64. ResNet-110 has 12 blocks a stage in the PCL paper, 18 in its code and in `profiles/hcp`; 3 are 29 layers.",
        "Epochs, as params.yaml names them: pretrain, of the softmax model that most methods start from; mixed, of methods that "
        "see each image clean and attacked; attacked, of those that see attacked images alone; train, of all others, and of these "
        "too where the run names no other number.",
        "## What the papers claim",
        "Checked at the eps of the verdict and on its images, where no eps is named; PCL + AT against Madry at the eps of PCL's "
        "tables on the sets that they have. Losses on features alone are compared at the eps, of those measured, at which BIM "
        "leaves nearest to half of the undefended model's images right: at that of the verdict nothing is left to compare. The "
        "lines of PCL tables 3 and 4 have the images of those tables.",
        "*holds*: in every pair the 95 % interval of the difference, plus the points that the claim allows, is above 0 (in the "
        "last line: no check warns); *does not hold*: in one or more it is below 0; *not told apart*: in some it contains 0; "
        "*attack too weak to tell*: the attack that knows the prototypes leaves more. There, pairs at chance are left out. "
        "*(flagged)*: a check for masked gradients warns of that model, so its accuracy is an upper bound. Beside a paper's table: "
        "in how many of its own comparisons it is so.",
        "Intervals are of the choice of test images alone, and cautious, since all methods have the same images: of two accuracies "
        "near 90 % of 500 images that of the difference is about ± 4 points, so *holds* at a margin of one point needs a lead. "
        "They are not corrected for the number of pairs. With one seed, a difference below some 6 points may be chance of "
        "training: two seeds of one method have differed by up to 5.6 points on digits ([docs/faq.md](docs/faq.md)).",
        "Recipes are compared as run, so a row may compare more than the loss: Madry trains on adversarial examples only, all at "
        "the eps of the verdict, and may have a different number of epochs. For methods that differ in one entry see below.",
        *(part for run in have for dataset in run.run.datasets for part in _claims(run, dataset, published)),
        "## What one change does",
        "Each method against the first earlier one in `run.methods` whose recipe differs in one entry, and perhaps in epochs; an "
        "entry such as `adversary` may differ in several values, which are named. Accuracy in %, at the eps of the verdict and on "
        "its images, and under BIM at the smaller eps of the claims above. **Bold** where the 95 % interval of the difference "
        "lies on one side of 0.",
        *(part for run in have for dataset in run.run.datasets for part in _changes(run, dataset)),
        "## What the settings of a measurement do",
        "Settings that the papers leave open or that are not theirs here, on the same models.",
        *_noise(have),
        *_cw_steps(sorted(benchmarks.glob("*/cw_steps.csv"))),
        "## How far each table is from the published one",
        *_differences(table),
        *_not_run(table, rest, not_here(table, runs)),
    ]
    return "\n\n".join(parts) + "\n"


def _run_lines(made: Measured, published: pd.DataFrame) -> list[dict[str, str]]:
    verdict = read_table(made.tables / "verdict.csv")
    lines = []
    for dataset, own in made.run.datasets.items():
        images = read_record(made.metrics / f"data/{dataset}.json")["images"]
        judged = verdict.loc[verdict["dataset"] == dataset, "images"].max()
        epochs = ", ".join(f"{count} {name}" for name, count in own.epochs.items())
        lines.append(
            {
                "run": made.name,
                "data set": dataset,
                "training images": f"{images['train']:,}",
                "epochs": f"{epochs} ({_papers_epochs(dataset, published)})",
                "trained with": made.training[dataset],
                "source network": made.sources[dataset],
                "seeds": ", ".join(map(str, made.run.seeds)),
                "test images": f"{images['test']:,}",
                "verdict": f"{judged} images, eps {own.headline_eps:g}, AutoAttack {made.run.autoattack}",
            }
        )
    return lines


def _papers_epochs(dataset: str, published: pd.DataFrame) -> str:
    shown, found = figures(published), []
    for paper, schedule in schedules(published).items():
        if dataset in set(shown.loc[shown["paper"] == paper, "dataset"]):
            lengths = (f"{of.get(dataset, of.get('all'))} {name}" for name, of in schedule.items())
            found.append(f"{paper.upper()} {', '.join(lengths)}")
    return "; ".join(found) or "not in the papers"


def _claims(made: Measured, dataset: str, published: pd.DataFrame) -> list[str]:
    headline = made.run.datasets[dataset].headline_eps
    tables, keys = _read(made)
    found = answers(dataset, published, tables, keys, made.sources[dataset])
    lines = [
        {
            "claim": one.claim,
            "paper": one.source,
            "here": f"**{one.verdict}**{one.counts and f': {one.counts}'}",
            "accuracy, %": one.measured,
            f"AutoAttack leaves at eps {headline:g}, %": one.left,
        }
        for one in found
    ]
    return [f"### {dataset} ({made.name}), eps {headline:g}", markdown_table(pd.DataFrame(lines))]


def _changes(made: Measured, dataset: str) -> list[str]:
    every = rows_of(dataset, *_read(made))
    weaker = every[(every["where"] == WEAKER) & (every["attack"] == "bim")]
    under_bim = {name_attack("bim", eps): partial(row_of, attack="bim") for eps in weaker["eps"].unique()}
    lines = []
    for method, other, text in made.changes[dataset]:
        own = [every[(every["where"] == VERDICT) & (every["method"] == name)] for name in (other, method)]
        if any(rows.empty for rows in own):
            raise ValueError(f"{made.name}: its tables lack {other} or {method}; run `dvc repro`")
        first, second = (rows["label"].iloc[0] for rows in own)
        smaller = one_change([weaker[weaker["method"] == name] for name in (other, method)], under_bim)
        lines.append({"from": first, "to": second, "what differs": text, **smaller, **one_change(own)})
    return [f"### {dataset} ({made.name})", markdown_table(pd.DataFrame(lines))] if lines else []


def _noise(runs: Sequence[Measured]) -> list[str]:
    """hcp table 3 by stop rule, and where each method stands by it."""
    lines = []
    for made in runs:
        table = labels_in_markdown(read_table(made.tables / "hcp.csv"))
        for dataset, own in table[table["stop"].notna()].groupby("dataset", sort=False):
            by_rule = own.pivot_table(index="label", columns="stop", values="measured", sort=False)
            cells = by_rule.map("{:.4f}".format) + by_rule.rank(ascending=False, method="min").map(", rank {:.0f}".format)
            lines.append(cells.add_prefix("stop: ").rename_axis("method").reset_index().assign(**{"data set": dataset}))
    if not lines:
        return []
    text = (
        "Mean squared perturbation that an attack without a bound needs (HCP table 3), the largest of a run first in rank. "
        "`sample`: until the image is misclassified; `batch`: until all of its batch (`noise.batch_size`) is, as in the authors' "
        "code."
    )
    rows = pd.concat(lines).fillna("-")
    return ["### Where the noise measurement stops", text, markdown_table(rows[["data set", *rows.columns.drop("data set")]])]


def _cw_steps(paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    text = (
        "The run's steps and the 1000 of 0.01 that the PCL paper has, on the same models and images (`benchmarks/cw_steps.py`): "
        "accuracy in % that each leaves, and how many images one of them breaks and the other does not."
    )
    rows = pd.concat([pd.read_csv(path) for path in paths])
    return ["### Steps of C&W", text, markdown_table(rows[[*CW_COLUMNS]].rename(columns=CW_COLUMNS))]


def _read(made: Measured) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The tables that claims and changes are read off, and the published key by method."""
    tables = {name: labels_in_markdown(read_table(made.tables / f"{name}.csv")) for name in TABLES}
    return tables, {name: method.published or f"not published: {name}" for name, method in made.run.methods.items()}


def one_change(rows: Sequence[pd.DataFrame], columns: Mapping[str, Pick] = ATTACKS) -> dict[str, str]:
    """rows: `rows_of` one data set, one method's each -> by column both accuracies."""
    texts = {}
    for name, pick in columns.items():
        before, after = (None if (row := pick(own)) is None else value_of(row) for own in rows)
        text = " → ".join("-" if value is None else f"{value.measured:.1f}" for value in (before, after))
        texts[name] = f"**{text}**" if HOLDS in (order(before, after), order(after, before)) else text
    return texts


def _undefended(rows: pd.DataFrame) -> list[str]:
    """rows: with `difference`. A sentence on the model without a defence, where it was run."""
    own, found = rows[rows["key"] == "softmax_fs"], []
    white_box = own["setting"] == WHITE_BOX
    for name, part in (("white-box", own[white_box]), ("on images from another network", own[~white_box])):
        if len(part):
            most = part.sort_values("difference", key=abs, kind="stable").iloc[-1]
            where = f"{most['paper'].upper()} table {most['table']}, {most['dataset']}, {name_attack(most['attack'], most['eps'])}"
            found.append(f"{name} {most['difference']:+.1f} ({where})")
    if not found:
        return []
    return [
        f"{NAMES['softmax_fs']} has no defence; its largest differences: {'; '.join(found)}. Where it "
        "is far off, the cause is in the network, the schedule, the attack or the network that made the images, not in a defence; "
        "the accuracy that another model keeps there is no evidence that its defence is reproduced."
    ]


def _differences(table: pd.DataFrame) -> list[str]:
    """table: `coverage`. A line a method, of accuracies alone."""
    rows = table[table["measured"].notna() & (table["metric"] == "accuracy")]
    if rows.empty:
        return ["No run of the papers' data sets has tables here."]
    rows = rows.assign(difference=(rows["measured"] - rows["published"]).astype(float))
    lines = []
    for (run, paper, number, dataset, key), own in rows.groupby(["run", "paper", "table", "dataset", "key"], sort=False):
        clean, attacked = own[own["attack"] == "clean"], own[own["attack"] != "clean"]
        lines.append(
            {
                **{"paper": paper, "table": f"{number}", "data set": dataset, "method": NAMES[str(key)], "run": run},
                "within the tolerance": f"{own['status'].isin(NEAR).sum()} of {len(own)}",
                "clean": f"{clean['difference'].mean():+.1f}" if len(clean) else "-",
                "attacked, median": f"{attacked['difference'].median():+.1f}" if len(attacked) else "-",
                "attacked, from": f"{attacked['difference'].min():+.1f}" if len(attacked) else "-",
                "attacked, to": f"{attacked['difference'].max():+.1f}" if len(attacked) else "-",
            }
        )
    return [
        " ".join(["Measured less published, in points of accuracy.", *_undefended(rows)]),
        markdown_table(pd.DataFrame(lines)),
    ]


def _not_run(table: pd.DataFrame, rest: Needs, lacking: Sequence[str]) -> list[str]:
    """table: `coverage`. By paper and data set the tables with figures that are not measured, and the hours of the paper's own
    run. lacking: published methods that no run has."""
    lines = []
    for (paper, dataset), own in table.groupby(["paper", "dataset"], sort=False):
        left = own[own["measured"].isna() & ~own["key"].isin(lacking)]
        if len(left):
            need = rest[str(paper)].get(str(dataset))
            in_part = set(own.loc[own["measured"].notna(), "table"])
            names = [f"{number} in part" if number in in_part else f"{number}" for number in sorted(set(left["table"]))]
            lines.append(
                {
                    **{"paper": paper, "data set": dataset, "tables": ", ".join(names)},
                    **{"figures": f"{len(left)}", "GPU-hours": f"{need[0]:.1f}" if need else "-"},
                }
            )
    text = (
        "Figures without a measured one on the paper's data set. `make repro PROFILE=hcp` and `make repro PROFILE=pcl` "
        "do it, in the GPU-hours of [metrics/coverage.md](metrics/coverage.md): one seed, all tables of the data set together. "
        "What the papers print of Yu et al. is not run."
    )
    return [text, markdown_table(pd.DataFrame(lines))] if lines else []
