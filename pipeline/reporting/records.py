"""Whether what the attacks left is whole, and of the model that it is said to be of: stage attack keeps its figures in run.json
beside the outcomes, stage transfer has a table beside them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.reporting.files import read_arrays, read_lines, read_record, read_rows
from pipeline.reporting.measurements import check_origin, stage_file
from pipeline.reporting.outcomes import NOISE, attack_file, summarise
from pipeline.reporting.verdict.outcomes import AUTOATTACK, AUTOATTACK_L2, verdict_file
from pipeline.reporting.verdict.prototypes import READ, figures

OUTCOMES = ["image", "label", "attack", "eps", "correct", "mse"]
OF_PROTOTYPES = {  # in the record: in what `figures` returns
    "nearest/clean": "nearest",
    "nearest/attacked": "nearest_robust",
    "membership/coverage": "coverage",
    "membership/broken": "broken",
}
KEYS = ["source", "attack", "eps", "target"]


def check_models(data: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: Iterable[int]) -> None:
    """data: the folder of attacks/ and verdict/. Raises ValueError where the files of a model are of another, are cut off, or
    lack something."""
    for dataset, method, seed in product(datasets, methods, seeds):
        for fault in faults(data, dataset, method, seed):
            places = " and ".join(str(data / stage / dataset / method / str(seed)) for stage in ("attacks", "verdict"))
            raise ValueError(f"{fault}; delete {places} and run `dvc checkout` or `dvc repro`")


def faults(data: Path, dataset: str, method: str, seed: int) -> Iterator[str]:
    """What is wrong with the files of one model."""
    record_file = attack_file(data / "attacks", dataset, method, seed, "run.json")
    record, name = read_record(record_file), f"{dataset}/{method}/{seed}"
    if record.get("model") != name:
        yield f"{record_file} is of the model {record.get('model')}, not of {name}"
    files = {name: verdict_file(data / "verdict", dataset, method, seed, name) for name in ("outcomes.parquet", "checks.json")}
    of_verdict, of_attacks = files["outcomes.parquet"], attack_file(data / "attacks", dataset, method, seed, "outcomes.parquet")
    verdict, attacks = (read_rows(path, OUTCOMES) for path in (of_verdict, of_attacks))
    whole = verdict[~verdict["attack"].str.startswith((f"{AUTOATTACK}/", f"{AUTOATTACK_L2}/"))]
    yield from missing_images(of_verdict, whole)
    yield from missing_images(of_attacks, attacks)
    found = {of_verdict: measured(whole), files["checks.json"]: {}}
    found[files["checks.json"]] = {f"check/{check}": value for check, value in read_record(files["checks.json"]).items()}
    found[of_attacks] = {figure: value for figure, value in measured(attacks).items() if figure not in found[of_verdict]}
    if (prototypes := of_verdict.with_name("prototypes.parquet")).is_file():
        found[prototypes] = prototype_figures(read_rows(prototypes, READ))
    yield from differences(found, record.get("metrics", {}), record_file)
    yield from missing_parts(of_verdict, verdict)
    examples = of_verdict.with_name("examples.npz")
    if examples.is_file():
        yield from foreign_examples(examples, verdict)


def measured(outcomes: pd.DataFrame) -> dict[str, float]:
    """Figures as stage attack logs them."""
    found = {}
    for attack, eps, accuracy, mse in summarise(outcomes)[["attack", "eps", "accuracy", "mse"]].to_numpy():
        if attack.startswith(NOISE):
            found[f"mse/{attack}"] = mse
        else:
            found[f"accuracy/{attack}_{eps:g}" if eps else f"accuracy/{attack}"] = accuracy
    return found


def prototype_figures(rows: pd.DataFrame) -> dict[str, float]:
    """Likewise, of prototypes.parquet; none where rows are missing, which then are missed."""
    try:
        values = figures(rows)
    except KeyError:
        return {}
    return {figure: values[own] for figure, own in OF_PROTOTYPES.items() if own in values}


def missing_images(path: Path, outcomes: pd.DataFrame) -> Iterator[str]:
    """An attack has the images from 0 on, each once."""
    for (attack, _), rows in outcomes.groupby(["attack", "eps"], sort=False):
        if not np.array_equal(rows["image"], np.arange(len(rows))):
            yield f"{path} is not whole: images of {attack} are missing"


def differences(found: Mapping[Path, Mapping[str, float]], known: Mapping[str, float], record: Path) -> Iterator[str]:
    """Of figures by file and those of the record."""
    for path, own in found.items():
        for figure, value in own.items():
            if not math.isclose(value, known.get(figure, math.inf), rel_tol=1e-5, abs_tol=1e-9):
                yield f"{path} is not whole, or of another model: {figure} is {value} in it, {known.get(figure)} in {record}"
    if lacking := set(known).difference(*found.values()):
        yield f"{record} has {min(lacking)}, which no other file of the model has"


def missing_parts(path: Path, verdict: pd.DataFrame) -> Iterator[str]:
    """The parts of AutoAttack break the images that the whole of it breaks."""
    wrong = {str(attack): set(rows.loc[~rows["correct"], "image"]) for attack, rows in verdict.groupby("attack")}
    for suite in {AUTOATTACK, AUTOATTACK_L2} & set(wrong):
        parts = set[int]().union(*(images for attack, images in wrong.items() if attack.startswith(f"{suite}/")))
        if parts != wrong[suite] - wrong["clean"]:
            yield f"{path} is not whole: parts of {suite} are missing"


def foreign_examples(path: Path, verdict: pd.DataFrame) -> Iterator[str]:
    """The images shown are some that AutoAttack broke, by the part of it that is named."""
    arrays = read_arrays(path, "image", "label", "attack")
    broken = verdict[~verdict["correct"]].set_index(["image", "attack"])["label"]
    shown = pd.MultiIndex.from_arrays([arrays["image"], arrays["attack"]])
    if not np.array_equal(broken.reindex(shown), arrays["label"]):
        yield f"{path} is not whole, or of another model than the outcomes beside it"


def check_transfer(folder: Path, *, datasets: Iterable[str], seeds: Iterable[int], sources: list[str], methods: list[str]) -> None:
    """folder: data/transfer. Raises ValueError where table and outcomes differ, or a model of the run is not in them."""
    for dataset, seed in product(datasets, seeds):
        file = stage_file(folder / dataset / f"{seed}.csv", "transfer")
        outcomes = stage_file(file.with_suffix(".parquet"), "transfer")
        rows = read_rows(outcomes, ["dataset", "seed", *KEYS, "correct"]).astype(dict.fromkeys(("source", "attack", "target"), str))
        check_origin(outcomes, rows, dataset=dataset, seed=seed)
        again = rows.groupby(KEYS).agg(images=("correct", "size"), accuracy=("correct", "mean"))
        advice = f"delete {file} and {outcomes} and run `dvc checkout` or `dvc repro`"
        if not agree(read_lines(file), again):
            raise ValueError(f"{file} and {outcomes} differ: one is not whole, or of another seed; {advice}")
        if lacking := set(product(sources, [*methods, *sources])) - {(source, target) for source, _, _, target in again.index}:
            raise ValueError(f"{file} lacks images of {' shown to '.join(min(lacking))}; {advice}")


def agree(table: pd.DataFrame, again: pd.DataFrame) -> bool:
    """again: images and accuracy (0 to 1) by KEYS, as the outcomes have them."""
    if not {*KEYS, "images", "accuracy"} <= set(table):
        return False
    table = table.set_index(KEYS).sort_index()
    same = table.index.equals(again.index) and table["images"].equals(again["images"])
    return same and np.allclose(table["accuracy"], 100 * again["accuracy"], atol=1e-3)
