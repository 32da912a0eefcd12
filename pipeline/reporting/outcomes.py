"""Reads what the attack stage left, data/attacks/<dataset>/<method>/<seed>/, and reduces it to one row per attack and eps (C&W: c).

Only the methods of the run are read, so folders of methods that were removed from it do not show up anywhere.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.reporting.files import damaged, read_arrays, read_rows

LINF = ("fgsm", "bim", "mim", "pgd")  # of the two papers
NOISE = "noise_"  # noise_sample and noise_batch: the noise measurement under either stop rule
ADAPTIVE = "adaptive_"  # adaptive_fgsm and so on: the attack on CE + prototype loss
CW = "cw"  # its column eps holds the first value of the constant c


def is_close(values: pd.Series, eps: float) -> pd.Series:
    """Equal as printed in a table: 8/255 is 0.031373 there."""
    return (values - eps).abs() < 1e-6


def in_order(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """Those of `first` that are among `names`, then the other names as they come; each once."""
    unique, first = list(dict.fromkeys(names)), list(first)
    return [name for name in first if name in unique] + [name for name in unique if name not in first]


def first_present(names: Iterable[str], *preferred: str) -> str | None:
    """The first of `preferred` that is among `names`."""
    present = set(names)
    return next((name for name in preferred if name in present), None)


def attack_file(folder: Path, dataset: str, method: str, seed: int, name: str) -> Path:
    path = folder / dataset / method / str(seed) / name
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {name}; run `dvc repro` to attack this model")
    return path


def summarise(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One folder's outcomes -> a row per (attack, eps) in order of appearance: images, accuracy and fooled in %, mse and mse_std
    over the images; chance: % of the images in the largest class, what always answering the same class gets right."""
    groups = outcomes.astype({"attack": str, "mse": float}).groupby(["attack", "eps"], sort=False)
    cells = groups.agg(
        images=("image", "size"), accuracy=("correct", "mean"), mse=("mse", "mean"), mse_std=("mse", "std")
    ).reset_index()
    cells["accuracy"] *= 100.0
    cells["chance"] = 100.0 * groups["label"].agg(lambda labels: labels.value_counts(normalize=True).max()).to_numpy()
    cells["fooled"] = 100.0 - cells["accuracy"]
    return cells


def load_cells(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int], first: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """`summarise` of every model with the columns dataset, method, seed in front. first: of each data set only so many images.
    Raises ValueError for a folder that is missing or was not attacked on the same number of images as its neighbours."""
    frames = []
    for dataset in datasets:
        for method in methods:
            for seed in seeds:
                path = attack_file(folder, dataset, method, seed, "outcomes.parquet")
                rows = read_rows(path, ["image", "label", "attack", "eps", "correct", "mse"])
                cells = summarise(rows if first is None else rows[rows["image"] < first[dataset]])
                cells.insert(0, "dataset", dataset)
                cells.insert(1, "method", method)
                cells.insert(2, "seed", seed)
                frames.append(cells)
    cells = pd.concat(frames, ignore_index=True)
    for name, rows in cells.groupby(["dataset", "attack", "eps"], sort=False):
        if rows["images"].nunique() > 1:
            seen = sorted(set(rows["images"]))
            raise ValueError(f"{folder}: {name} was measured on different numbers of images ({seen}); run `dvc repro`")
    return cells


def load_noise(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seeds: list[int], stops: list[str]
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """{stop rule: {dataset: {method: noise (seeds * N,)}}} of the methods whose noise was measured; noise: mean over an image's
    pixels of the squared perturbation."""

    def of_method(dataset: str, method: str, stop: str) -> np.ndarray:
        files = [attack_file(folder, dataset, method, seed, "outcomes.parquet") for seed in seeds]
        frames = [read_rows(path, ["mse"], [("attack", "==", NOISE + stop)]) for path in files]
        return pd.concat(frames)["mse"].to_numpy(float)

    result: dict[str, dict[str, dict[str, np.ndarray]]] = {stop: {} for stop in stops}
    for stop in stops:
        for dataset in datasets:
            noise = {method: of_method(dataset, method, stop) for method in methods}
            result[stop][dataset] = {method: values for method, values in noise.items() if len(values)}
    return result


def load_layers(
    folder: Path, *, dataset: str, method: str, seed: int, layers: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """({layer: features of the clean test images (N, D)}, labels (N,)) of those `layers` that the model has, else of its last."""
    path = attack_file(folder, dataset, method, seed, "features.npz")
    first = read_arrays(path, "layers", "label")
    names = [str(name) for name in first["layers"]]
    features, labels = read_arrays(path, *([name for name in layers if name in names] or names[-1:])), first["label"]
    outcomes = read_rows(path.with_name("outcomes.parquet"), ["label"], [("attack", "==", "clean")])
    if any(len(values) != len(labels) for values in features.values()) or not np.array_equal(outcomes["label"], labels):
        raise damaged(path, ValueError("it is not of the images in outcomes.parquet"))
    return features, labels


def load_features(
    folder: Path, *, datasets: Iterable[str], methods: Iterable[str], seed: int
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray, str]]]:
    """{dataset: {method: (features of the last layer (N, D), labels (N,), the layer's name)}}."""
    result: dict[str, dict[str, tuple[np.ndarray, np.ndarray, str]]] = {}
    for dataset in datasets:
        result[dataset] = {}
        for method in methods:
            layers, labels = load_layers(folder, dataset=dataset, method=method, seed=seed)
            ((name, features),) = layers.items()
            result[dataset][method] = features, labels, name
    return result
