"""Reads the outcomes of the verdict that stage attack left, data/verdict/<dataset>/<method>/<seed>/, and joins them by image with
those of its attacks."""

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from pipeline.reporting.measurements import stage_file
from pipeline.reporting.outcomes import CW, NOISE, attack_file, is_close, summarise

AUTOATTACK, AUTOATTACK_L2, ADAPTIVE_SUITE, ROBUST = "autoattack", "autoattack_l2", "adaptive", "robust"
STEPS, UNBOUNDED = "steps/", "unbounded"
COLUMNS = ["image", "label", "attack", "eps", "correct", "mse"]


def verdict_file(folder: Path, dataset: str, method: str, seed: int, name: str) -> Path:
    return stage_file(folder / dataset / method / str(seed) / name, "attack")


def load_verdict(
    attacks: Path, verdict: Path, *, headline_eps: dict[str, float], methods: Iterable[str], seeds: list[int]
) -> pd.DataFrame:
    """Cells as `load_cells`, of what the verdict ran on every image, and of `robust`: an image counts as right only if the model
    gets it right as it is and under every l-inf attack of either stage at the headline's eps or a smaller one. headline_eps: by
    data set of the run."""
    frames = []
    for dataset, eps in headline_eps.items():
        for method, seed in product(methods, seeds):
            own = pd.read_parquet(verdict_file(verdict, dataset, method, seed, "outcomes.parquet"), columns=COLUMNS)
            other = pd.read_parquet(attack_file(attacks, dataset, method, seed, "outcomes.parquet"), columns=COLUMNS)
            every = own[~own["attack"].str.startswith((f"{AUTOATTACK}/", f"{AUTOATTACK_L2}/"))]
            cells = summarise(pd.concat([every[every["attack"] != "clean"], worst_case(own, other, eps)]))
            frames.append(cells.assign(dataset=dataset, method=method, seed=seed))
    return pd.concat(frames, ignore_index=True)


def worst_case(own: pd.DataFrame, other: pd.DataFrame, eps: float) -> pd.DataFrame:
    """own: outcomes of the verdict, other: of the attacks, both of one model -> a row per image of the verdict under `robust`.
    Raises ValueError where the attacks lack one of its images."""
    linf = other[(other["eps"] < eps + 1e-6) & (other["attack"] != CW) & ~other["attack"].str.startswith(NOISE)]
    ours = own[(is_close(own["eps"], eps) & ~own["attack"].str.startswith(AUTOATTACK_L2)) | (own["attack"] == "clean")]
    if not set(ours["image"]) <= set(linf["image"]):
        raise ValueError("data/attacks and data/verdict are of different images; run `dvc repro`")
    rows = (
        pd.concat([linf[linf["image"].isin(ours["image"])], ours])
        .groupby("image")
        .agg(label=("label", "first"), correct=("correct", "all"))
    )
    return rows.reset_index().assign(attack=ROBUST, eps=eps, mse=float("nan"))


def load_parts(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int], names: Iterable[str]
) -> pd.DataFrame:
    """What each of the parts `names` of AutoAttack did, in their order: dataset, method, seed, suite, attack, eps, images (all of
    them), broken (% of all images, by this part), left (% of all images right after it). A part that had no image left to attack
    broke none."""
    rows = []
    for dataset, method, seed in product(datasets, methods, seeds):
        outcomes = pd.read_parquet(verdict_file(folder, dataset, method, seed, "outcomes.parquet"), columns=COLUMNS)
        for suite in (AUTOATTACK, AUTOATTACK_L2):
            whole = outcomes[outcomes["attack"] == suite]
            for name in names if len(whole) else ():
                correct = outcomes.loc[outcomes["attack"] == f"{suite}/{name}", "correct"]
                broken, left = (100 * count / len(whole) for count in ((~correct).sum(), correct.sum()))
                rows.append((dataset, method, seed, suite, f"{suite}/{name}", whole["eps"].iloc[0], len(whole), broken, left))
    return pd.DataFrame(rows, columns=["dataset", "method", "seed", "suite", "attack", "eps", "images", "broken", "left"])


def load_checks(folder: Path, dataset: str, method: str, seed: int) -> dict[str, float]:
    """checks.json, measured on the model."""
    values: dict[str, float] = json.loads(verdict_file(folder, dataset, method, seed, "checks.json").read_text())
    return values
