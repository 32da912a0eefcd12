"""Reads what the attack stage left, data/attacks/<dataset>/<method>/<seed>/, and reduces it to one row per attack and eps.

Only what is asked for is read, so folders of methods that were removed from params.yaml do not show up anywhere.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

PAPER_METHODS = ("softmax_fs", "at", "center", "pcl", "hcp", "hcp_fs", "hcp_m_p", "hcp_m_np", "hcp_p_np", "hcp_at")
PAPER_ATTACKS = ("clean", "fgsm", "bim", "mim")
NOISE = "noise_"  # noise_sample and noise_batch: the noise measurement under either stop rule


def in_paper_order(names: Iterable[str], paper: tuple[str, ...] = PAPER_METHODS) -> list[str]:
    """The names that the paper has, in its order, then the others as they come; each once."""
    unique = list(dict.fromkeys(names))
    return [name for name in paper if name in unique] + [name for name in unique if name not in paper]


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
    over the images."""
    groups = outcomes.astype({"attack": str, "mse": float}).groupby(["attack", "eps"], sort=False)
    cells = groups.agg(
        images=("image", "size"), accuracy=("correct", "mean"), mse=("mse", "mean"), mse_std=("mse", "std")
    ).reset_index()
    cells["accuracy"] *= 100.0
    cells["fooled"] = 100.0 - cells["accuracy"]
    return cells


def load_cells(folder: Path, *, datasets: list[str], methods: list[str], seeds: list[int]) -> pd.DataFrame:
    """`summarise` of every model with the columns dataset, method, seed in front. Raises ValueError for a folder that is missing or
    was not attacked on the same number of images as its neighbours."""
    frames = []
    for dataset in datasets:
        for method in in_paper_order(methods):
            for seed in seeds:
                path = attack_file(folder, dataset, method, seed, "outcomes.parquet")
                cells = summarise(pd.read_parquet(path, columns=["image", "attack", "eps", "correct", "mse"]))
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
    folder: Path, *, datasets: list[str], methods: list[str], seeds: list[int], stops: list[str]
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """{stop rule: {dataset: {method: noise (seeds * N,)}}}; noise: mean over an image's pixels of the squared perturbation."""

    def of_seed(dataset: str, method: str, seed: int, stop: str) -> np.ndarray:
        path = attack_file(folder, dataset, method, seed, "outcomes.parquet")
        return pd.read_parquet(path, columns=["mse"], filters=[("attack", "==", NOISE + stop)])["mse"].to_numpy(float)

    return {
        stop: {
            dataset: {m: np.concatenate([of_seed(dataset, m, seed, stop) for seed in seeds]) for m in in_paper_order(methods)}
            for dataset in datasets
        }
        for stop in stops
    }


def load_features(
    folder: Path, *, datasets: list[str], methods: list[str], seed: int
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray, str]]]:
    """{dataset: {method: (features of the last layer (N, D), labels (N,), the layer's name)}}."""

    def last_layer(dataset: str, method: str) -> tuple[np.ndarray, np.ndarray, str]:
        with np.load(attack_file(folder, dataset, method, seed, "features.npz"), allow_pickle=False) as arrays:
            layer = str(arrays["layers"][-1])
            return arrays[layer], arrays["label"], layer

    return {dataset: {method: last_layer(dataset, method) for method in in_paper_order(methods)} for dataset in datasets}
