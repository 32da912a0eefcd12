"""Reads what is measured beside the attacks: data/transfer, data/planes and data/cost."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.reporting.files import damaged, read_arrays, read_lines

TRANSFER = ("dataset", "seed", "target", "source", "attack", "eps", "images", "accuracy")
COST = ("dataset", "method", "repeat", "seconds", "epochs", "images", "network", "batch_size", "device", "threads")


class Plane(NamedTuple):
    """One method with a penultimate layer of two features. epochs: (E,), accuracy: (E,) in %, clean: (E, N, 2) clean test features
    after each epoch, adversarial: (N, 2) PGD images of the trained model, correct: (N,) is the prediction on those right,
    centres: (E, K, 2) or None."""

    epochs: np.ndarray
    accuracy: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    correct: np.ndarray
    centres: np.ndarray | None


class Planes(NamedTuple):
    """label: (N,); eps: of the PGD images; methods: Plane by method."""

    label: np.ndarray
    eps: float
    methods: dict[str, Plane]


def stage_file(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no {path}; run `dvc repro {stage}`")
    return path


def check_origin(path: Path, rows: pd.DataFrame, **own: str | int) -> None:
    """rows: of the file. Raises ValueError where its columns have other values than `own`."""
    for column, value in own.items():
        if len(other := rows.loc[rows[column].astype(str) != str(value), column]):
            raise damaged(path, ValueError(f"it is of {column} {other.iloc[0]}"))


def load_transfer(folder: Path, *, datasets: Iterable[str], seeds: list[int]) -> pd.DataFrame:
    """data/transfer/<dataset>/<seed>.csv as cells: dataset, method (the target), seed, source, attack, eps, images, accuracy
    in %."""
    types = {
        "dataset": str,
        "method": str,
        "seed": int,
        "source": str,
        "attack": str,
        "eps": float,
        "images": int,
        "accuracy": float,
    }
    frames = []
    for dataset in datasets:
        for seed in seeds:
            path = stage_file(folder / dataset / f"{seed}.csv", "transfer")
            rows = read_lines(path, TRANSFER)
            check_origin(path, rows, dataset=dataset, seed=seed)
            frames.append(rows.assign(method=rows["target"])[list(types)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(types)).astype(types)


def load_cost(folder: Path, *, datasets: Iterable[str], methods: list[str]) -> pd.DataFrame:
    """data/cost/<dataset>.csv: dataset, method, repeat, seconds (one epoch), epochs (of the training), images,
    network, batch_size, device, threads."""
    frames = []
    for dataset in datasets:
        path = stage_file(folder / f"{dataset}.csv", "cost")
        table = read_lines(path, COST)
        check_origin(path, table, dataset=dataset)
        repeats = {str(method): rows["repeat"].tolist() for method, rows in table.groupby("method")}
        if not {*methods} <= set(repeats) or len(set(map(tuple, repeats.values()))) > 1:
            raise damaged(path, ValueError(f"not every method has every repeat: {repeats}"))
        frames.append(table)
    cost = pd.concat(frames, ignore_index=True)
    return cost[cost["method"].isin(methods)]


def load_planes(folder: Path, *, datasets: Iterable[str], methods: list[str]) -> dict[str, Planes]:
    """data/planes/<dataset>/<method>.npz by data set."""
    result: dict[str, Planes] = {}
    for dataset in datasets if methods else ():
        planes = {}
        for method in methods:
            path = stage_file(folder / dataset / f"{method}.npz", "planes")
            arrays = read_arrays(path)
            if lacking := {*Plane._fields[:-1], "label", "eps", "model"} - set(arrays):
                raise damaged(path, ValueError(f"it lacks {min(lacking)}"))
            if arrays["model"] != f"{dataset}/{method}":
                raise damaged(path, ValueError(f"it is of {arrays['model']}"))
            plane = Plane(**{name: arrays[name] for name in Plane._fields[:-1]}, centres=arrays.get("centres"))
            epochs, images = len(plane.epochs), len(arrays["label"])
            shapes = [array.shape[:2] for array in (plane.accuracy, plane.clean, plane.adversarial, plane.correct)]
            if shapes != [(epochs,), (epochs, images), (images, 2), (images,)]:
                raise damaged(path, ValueError(f"its arrays do not fit together: {shapes}"))
            planes[method] = plane
        result[dataset] = Planes(arrays["label"], float(arrays["eps"]), planes)
    return result
