"""Reads the outcomes of the verdict that stage attack left, data/verdict/<dataset>/<method>/<seed>/, and joins them by image with
those of its attacks and of the images that were made on other models."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import pandas as pd

from pipeline.reporting.files import read_record, read_rows
from pipeline.reporting.measurements import stage_file
from pipeline.reporting.outcomes import attack_file, load_cells, summarise
from pipeline.reporting.run import Run
from pipeline.reporting.tables import accuracy_rows

AUTOATTACK, AUTOATTACK_L2, ADAPTIVE_SUITE, ROBUST = "autoattack", "autoattack_l2", "adaptive", "robust"
STEPS, UNBOUNDED = "steps/", "unbounded"
COLUMNS = ["image", "label", "attack", "eps", "correct", "linf", "l2", "mse"]
ROUNDING = 1e-6  # of pixels, on top of eps


def verdict_file(folder: Path, dataset: str, method: str, seed: int, name: str) -> Path:
    return stage_file(folder / dataset / method / str(seed) / name, "attack")


def load_headline(run: Run, data: Path, seeds: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`load_cells` and `load_verdict`, both of the verdict's images, which may be fewer than those of the papers' attacks."""
    verdict = load_verdict(
        data / "attacks",
        data / "verdict",
        data / "transfer" if run.transfer else None,
        headline_eps={name: own.headline_eps for name, own in run.datasets.items()},
        methods=run.methods,
        seeds=seeds,
        norms={name: own.norm for name, own in run.datasets.items()},
    )
    first = first_images(verdict)
    return load_cells(data / "attacks", datasets=run.datasets, methods=run.methods, seeds=seeds, first=first), verdict


def first_images(verdict: pd.DataFrame) -> dict[str, int]:
    """How many images the verdict is of, by data set."""
    return {str(dataset): int(images) for dataset, images in verdict.groupby("dataset")["images"].max().items()}


def load_verdict(
    attacks: Path,
    verdict: Path,
    transfer: Path | None,
    *,
    headline_eps: dict[str, float],
    methods: Iterable[str],
    seeds: list[int],
    norms: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Cells as `load_cells`, of what the verdict ran on every image, and of `robust`, see `worst_case`. transfer: the folder of
    outcomes by image on other models' images, where there are any; headline_eps: by data set of the run; norms: of it, where it is
    not linf."""
    frames = []
    methods = list(methods)
    for dataset, eps in headline_eps.items():
        shown = {seed: None if transfer is None else load_transferred(transfer, dataset, seed) for seed in seeds}
        for method, seed in product(methods, seeds):
            own = read_rows(verdict_file(verdict, dataset, method, seed, "outcomes.parquet"), COLUMNS)
            other = read_rows(attack_file(attacks, dataset, method, seed, "outcomes.parquet"), COLUMNS)
            foreign = shown[seed]
            tried = [other] if foreign is None else [other, foreign[foreign["target"] == method]]
            rows = worst_case(own, tried, eps, norm=(norms or {}).get(dataset, "linf"))
            every = own[~own["attack"].str.startswith((f"{AUTOATTACK}/", f"{AUTOATTACK_L2}/"))]
            cells = summarise(pd.concat([every[every["attack"] != "clean"], rows]))
            frames.append(cells.assign(dataset=dataset, method=method, seed=seed))
    return pd.concat(frames, ignore_index=True)


def load_transferred(folder: Path, dataset: str, seed: int) -> pd.DataFrame:
    """data/transfer/<dataset>/<seed>.parquet: source, target, image, label, attack, eps, correct, linf, l2."""
    return read_rows(
        stage_file(folder / dataset / f"{seed}.parquet", "transfer"),
        ["source", "target", "image", "label", "attack", "eps", "correct", "linf", "l2"],
    )


def load_shown(folder: Path, first: Mapping[str, int], seeds: list[int]) -> pd.DataFrame:
    """Accuracy in % on images made on other models, of the first images of each data set: dataset, seed, method, source, attack,
    eps, accuracy. folder: data/transfer."""
    columns = ["dataset", "seed", "method", "source", "attack", "eps", "accuracy"]
    frames = [pd.DataFrame(columns=columns)]
    for dataset, seed in product(first, seeds):
        rows = load_transferred(folder, dataset, seed)
        rows = rows[rows["image"] < first[dataset]].rename(columns={"target": "method", "correct": "accuracy"})
        rows = rows.astype({"method": str, "source": str, "attack": str})
        cells = 100 * rows.groupby(["method", "source", "attack", "eps"], sort=False)["accuracy"].mean()
        frames.append(cells.reset_index().assign(dataset=dataset, seed=seed)[columns])
    return pd.concat(frames[len(frames) > 1 :], ignore_index=True)


def worst_case(own: pd.DataFrame, others: Iterable[pd.DataFrame], eps: float, *, norm: str = "linf") -> pd.DataFrame:
    """own: outcomes of the verdict, others: of the attacks, and of images made on other models -> a row per image under `robust`:
    right only if the model gets every image right that was tried on it within eps of that one, itself included, whatever attack
    made it, at whatever eps, and on whichever model. Raises ValueError where the attacks are not of the same images."""
    images = own["image"].unique()
    frames = [own, *others]
    if len(frames) > 1 and not set(images) <= set(frames[1]["image"]):
        raise ValueError("data/attacks and data/verdict are of different images; run `dvc repro`")
    rows = pd.concat(
        [rows.loc[rows["image"].isin(images) & (rows[norm] <= eps + ROUNDING), ["image", "label", "correct"]] for rows in frames]
    )
    worst = rows.groupby("image").agg(label=("label", "first"), correct=("correct", "all"))
    return worst.reset_index().assign(attack=ROBUST, eps=eps, mse=float("nan"))


def load_parts(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int], names: Iterable[str]
) -> pd.DataFrame:
    """What each of the parts `names` of AutoAttack did, in their order: dataset, method, seed, suite, attack, eps, images (all of
    them), broken (% of all images, by this part), left (% of all images right after it). A part that had no image left to attack
    broke none. `version/part` is of a second version, which ran on what the first had left; it is missing where it did not run."""
    rows = []
    for dataset, method, seed in product(datasets, methods, seeds):
        outcomes = read_rows(verdict_file(folder, dataset, method, seed, "outcomes.parquet"), COLUMNS)
        for suite in (AUTOATTACK, AUTOATTACK_L2):
            whole = outcomes[outcomes["attack"] == suite]
            for name in names if len(whole) else ():
                if "/" in name and not outcomes["attack"].str.startswith(f"{suite}/{name.split('/')[0]}/").any():
                    continue  # a version that this model did not need
                correct = outcomes.loc[outcomes["attack"] == f"{suite}/{name}", "correct"]
                broken, left = (100 * count / len(whole) for count in ((~correct).sum(), correct.sum()))
                rows.append((dataset, method, seed, suite, f"{suite}/{name}", whole["eps"].iloc[0], len(whole), broken, left))
    return pd.DataFrame(rows, columns=["dataset", "method", "seed", "suite", "attack", "eps", "images", "broken", "left"])


def second_versions(parts: pd.DataFrame) -> dict[tuple[str, str], str]:
    """parts: `load_parts` -> by (data set, method) the second version of AutoAttack, of those that it attacked."""
    rows = parts[parts["attack"].str.count("/") == 2]
    return {(dataset, method): attack.split("/")[1] for dataset, method, attack in rows[["dataset", "method", "attack"]].to_numpy()}


def load_learnt(folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int]) -> pd.DataFrame:
    """folder: data/attacks, where the record of the attacks says what training has measured -> a row per data set and method that
    was trained on adversarial examples: accuracy on validation images under that attack, as `accuracy_rows`."""
    rows = []
    for dataset, method, seed in product(datasets, methods, seeds):
        record = folder / dataset / method / str(seed) / "run.json"  # none of a model that stages.evaluate judges
        about = read_record(record).get("params", {}).get("validation", {}) if record.is_file() else {}
        if about.get("robust") is not None:
            rows.append((dataset, method, seed, float(about["robust"]), int(about["images"])))
    return accuracy_rows(pd.DataFrame(rows, columns=["dataset", "method", "seed", "accuracy", "images"]), ["dataset", "method"])


def load_checks(folder: Path, dataset: str, method: str, seed: int) -> dict[str, float]:
    """checks.json, measured on the model."""
    return read_record(verdict_file(folder, dataset, method, seed, "checks.json"))
