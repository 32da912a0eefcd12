"""Beside the verdict: which attack breaks what share, accuracy against eps, and the signs of masked gradients."""

from pathlib import Path

import pandas as pd

from pipeline.evaluation.signs import masking_checks
from pipeline.reporting.outcomes import ADAPTIVE, CW, NOISE, is_close
from pipeline.reporting.run import Dataset
from pipeline.reporting.tables import accuracy_rows, at_headline, rounded
from pipeline.reporting.verdict.outcomes import ADAPTIVE_SUITE, AUTOATTACK, UNBOUNDED, load_checks

MODEL = ["dataset", "method", "seed"]


def broken_frame(
    cells: pd.DataFrame, verdict: pd.DataFrame, parts: pd.DataFrame, datasets: dict[str, Dataset], labels: dict[str, str]
) -> pd.DataFrame:
    """cells: `load_cells`, verdict: `load_verdict`, parts: `load_parts`. dataset, method, label, suite (`paper`, `adaptive`,
    `autoattack`, `autoattack_l2`), attack, eps, images, broken, left: mean over seeds, in % of the images. Of a part of AutoAttack
    `broken` is what it broke of the images that were still right and `left` the accuracy after it; of the others `left` is the
    accuracy under the attack and `broken` what is missing to the clean accuracy."""
    linf = at_headline(cells, datasets) & ~cells["attack"].isin(("clean", CW))
    adaptive = verdict["attack"].str.startswith(f"{ADAPTIVE_SUITE}/")
    alone = pd.concat([cells[linf], verdict[adaptive]])
    clean = cells[cells["attack"] == "clean"].set_index(MODEL)["accuracy"]
    before = clean.reindex(pd.MultiIndex.from_frame(alone[MODEL])).to_numpy()
    suite = alone["attack"].str.startswith((ADAPTIVE, f"{ADAPTIVE_SUITE}/")).map({True: "adaptive", False: "paper"})
    alone = alone.assign(suite=suite, left=alone["accuracy"], broken=before - alone["accuracy"])
    table = pd.concat([alone, parts])
    keys = ["dataset", "method", "suite", "attack", "eps"]
    table = table.groupby(keys, sort=False).agg(images=("images", "first"), broken=("broken", "mean"), left=("left", "mean"))
    table = table.reset_index()
    table.insert(2, "label", [labels[method] for method in table["method"]])
    return rounded(table, 4)


def curves_frame(cells: pd.DataFrame, verdict: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Accuracy under each l-inf attack by eps, 0 being clean images: dataset, method, label, attack, eps, measured, images,
    ci95_low, ci95_high, seeds, seed_std. `unbounded` is PGD at eps 1."""
    own = ~cells["attack"].str.startswith((NOISE, ADAPTIVE)) & (cells["attack"] != CW)
    rows = accuracy_rows(pd.concat([cells[own], verdict[verdict["attack"].isin((AUTOATTACK, UNBOUNDED))]]))
    rows["label"] = [labels[method] for method in rows["method"]]
    columns = ["dataset", "method", "label", "attack", "eps", "measured", "images", "ci95_low", "ci95_high", "seeds", "seed_std"]
    return rounded(rows[columns], 4)


def masking_frame(
    cells: pd.DataFrame,
    verdict: pd.DataFrame,
    parts: pd.DataFrame,
    shown: pd.DataFrame,
    folder: Path,
    *,
    datasets: dict[str, Dataset],
    labels: dict[str, str],
    square: list[str],
) -> pd.DataFrame:
    """A row per data set, method, seed and check: value, unit, threshold, passed, near, what. cells: `load_cells`, verdict:
    `load_verdict`, parts: `load_parts`, shown: `load_shown`, folder: data/verdict, square: what AutoAttack's parts without
    gradients are called. All of the same images, which the thresholds take for granted."""
    everything, frames = pd.concat([cells, verdict]), []
    for model in cells[MODEL].drop_duplicates().itertuples(index=False, name=None):
        dataset, method, seed = model
        strength, own = datasets[dataset], _of(everything, model)
        accuracy: dict[str, dict[float, float]] = {}
        for attack, eps, value in own[["attack", "eps", "accuracy"]].itertuples(index=False):
            accuracy.setdefault(attack, {})[eps] = value
        foreign = _of(shown, model)
        foreign = foreign[is_close(foreign["eps"], strength.table_eps) & (foreign["attack"] != CW) & (foreign["source"] != method)]
        worst = {str(source): float(value) for source, value in foreign.groupby("source")["accuracy"].min().items()}
        broken = _of(parts, model).set_index("attack")["broken"].reindex([f"{AUTOATTACK}/{part}" for part in square])
        measured = load_checks(folder, dataset, method, seed)
        images = int(own["images"].max())
        left = float(broken.fillna(0).max()) if square else None  # by one version of AutoAttack
        checks = masking_checks(accuracy, strength.headline_eps, worst, left, measured, images, transfer_eps=strength.table_eps)
        frame = pd.DataFrame(checks).rename(columns={"name": "check"})
        frames.append(frame.assign(dataset=dataset, method=method, label=labels[method], seed=seed))
    columns = ["dataset", "method", "label", "seed", "check", "value", "unit", "threshold", "passed", "near", "what"]
    return rounded(pd.concat(frames, ignore_index=True)[columns], 4)


def _of(table: pd.DataFrame, model: tuple[str, str, int]) -> pd.DataFrame:
    return table[(table[MODEL] == list(model)).all(axis=1)]
