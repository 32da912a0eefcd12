"""Made files as the stages attack, verdict, transfer, planes and cost leave them, with known counts of right answers."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
LINF = ("fgsm", "bim", "mim", "pgd")


def outcome_rows(attack: str, eps: float, right: int, images: int, mse: np.ndarray | float = 0.0) -> pd.DataFrame:
    """The first `right` of `images` images are classified right; labels go round ten classes."""
    i = np.arange(images)
    correct = i < right
    columns = {"image": i.astype(np.int32), "label": (i % 10).astype(np.int16), "attack": attack, "eps": eps}
    columns |= {"prediction": np.where(correct, i % 10, (i + 1) % 10).astype(np.int16), "correct": correct}
    return pd.DataFrame({**columns, "linf": np.float32(min(eps, 1)), "l2": np.float32(1), "mse": np.float32(mse)})


def write_outcomes(folder: Path, counts: dict[tuple[str, float], int], images: int, cw_images: int = 0) -> None:
    """counts: right answers by (attack, eps); those of C&W are of the first `cw_images` images."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [outcome_rows(a, e, n, cw_images if a == "cw" else images) for (a, e), n in counts.items()]
    pd.concat(frames).to_parquet(folder / "outcomes.parquet", index=False)


def write_features(folder: Path, images: int, spread: dict[str, float], seed: int = 0) -> None:
    """features.npz: ten blobs by layer; spread: distance of the blobs by layer."""
    rng, label = np.random.default_rng(seed), np.arange(images) % 10
    layers = {
        n: (rng.normal(size=(10, 16))[label] * s + rng.normal(size=(images, 16))).astype(np.float32) for n, s in spread.items()
    }
    np.savez(folder / "features.npz", label=label, layers=np.array(list(layers)), **layers)


PARTS = ("apgd_ce", "apgd_t", "fab_t", "square")


def write_verdict(folder: Path, images: int, *, clean: int, standing: list[int], eps: float, examples: int = 3) -> None:
    """What the stage verdict leaves. standing: how many images each part of AutoAttack leaves right; the adaptive attacks leave as
    many as AutoAttack does."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [outcome_rows("clean", 0.0, clean, images)]
    for part, before, after in zip(PARTS, [clean, *standing], standing, strict=False):
        frames.append(outcome_rows(f"autoattack/{part}", eps, after, before))
    names = ("autoattack", "adaptive/dlr", "adaptive/features", "adaptive", "steps/10", "unbounded")
    frames += [outcome_rows(n, 1.0 if n == "unbounded" else eps, 0 if n == "unbounded" else standing[-1], images) for n in names]
    pd.concat(frames).to_parquet(folder / "outcomes.parquet", index=False)
    checks = {"images": images, "zero_gradient": 0.0, "flat_gradient": 0.5, "cross_entropy": 50.0, "rescaled": 49.0}
    (folder / "checks.json").write_text(json.dumps({**checks, "random_forward": 0.0}))
    rng, label = np.random.default_rng(0), np.arange(examples) % 10
    image = rng.uniform(size=(examples, 1, 8, 8)).astype(np.float32)
    adversarial = (image + eps * np.sign(rng.normal(size=image.shape))).clip(0, 1).astype(np.float32)
    arrays = {"image": np.arange(examples), "clean": image, "adversarial": adversarial, "label": label}
    arrays |= {"prediction": (label + 1) % 10, "confidence": np.linspace(0.99, 0.8, examples, dtype=np.float32)}
    arrays |= {"attack": np.array(["autoattack/apgd_ce"] * examples, dtype="U32"), "classes": np.array([str(i) for i in range(10)])}
    np.savez(folder / "examples.npz", **arrays)


def write_verdict_tables(tables: Path, status: dict[tuple[str, str], str], labels: dict[str, str], eps: dict[str, float]) -> None:
    """What the stage tables adds to metrics/tables for the verdict, by hand. status: by (dataset, method); eps: by data set."""
    leaves = {"holds": (60, 55), "only looked robust": (70, 2), "does not hold": (3, 0), "does not learn": (8, 1)}
    rows, methods, masking, broken, curves = [], [], [], [], []
    for order, ((dataset, method), found) in enumerate(status.items()):
        name = {"dataset": dataset, "method": method, "label": labels.get(method, method)}
        paper, left = leaves[found]
        left = max(left - order / 10, 0)
        interval = {"images": 100, "ci95_low": left - 1, "ci95_high": left + 1, "seeds": 1, "chance": 10.0}
        values = {"clean": 97.5, "pgd": paper, "fgsm": paper + 9, "adaptive": left + 1, "autoattack": left, "robust": left}
        kind = {"group": "Some methods", "metric": "accuracy"}
        rows += [{**name, **kind, "attack": a, "eps": eps[dataset], "measured": v, **interval} for a, v in values.items()]
        about = {"group": "Some methods", "status": found, "note": f"Keeps {left:.1f} %.", "flags": order % 3}
        methods.append({**name, **about})
        for i, check in enumerate(("single step", "transfer", "square")):
            result = {"value": 12.5 if i < order % 3 else 0.25, "threshold": 5.0, "passed": i >= order % 3}
            masking.append({**name, "seed": 0, "check": check, **result, "what": f"what {check} says", "unit": "%"})
        steps = [("paper", "pgd", 97.5 - paper, paper), ("autoattack", "apgd_ce", 97.5 - left - 0.5, left + 0.5)]
        steps += [("autoattack", "square", 0.5, left), ("adaptive", "dlr", 97.5 - left - 1, left + 1)]
        suites = [{"suite": s, "attack": a, "broken": b, "left": after} for s, a, b, after in steps]
        broken += [{**name, **own, "eps": eps[dataset], "images": 100} for own in suites]
        points = {("clean", 0.0): 97.5, ("pgd", eps[dataset]): paper, ("pgd", 1.0): 0.0, ("autoattack", eps[dataset]): left}
        curves += [{**name, "attack": a, "eps": e, "measured": v, "ci95_low": v, "ci95_high": v} for (a, e), v in points.items()]
    files = {"verdict": rows, "verdict_status": methods, "masking": masking, "broken": broken, "curves": curves}
    for file, content in files.items():
        pd.DataFrame(content).assign(**({"seed_std": float("nan")} if file == "verdict" else {})).to_csv(
            tables / f"{file}.csv", index=False
        )


def write_plane(path: Path, images: int, *, centres: bool, scale: float, eps: float = 0.1) -> None:
    """Ten classes on a circle that grows with the epochs; every third twin lands on the next class and is misclassified."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, label, epochs = np.random.default_rng(1), np.arange(images) % 10, np.array([1, 3, 7, 12, 20])
    circle = np.stack([np.cos(2 * np.pi * np.arange(10) / 10), np.sin(2 * np.pi * np.arange(10) / 10)], axis=1)
    noise = rng.normal(size=(images, 2)) * 0.25
    clean = np.stack([circle[label] * scale * epoch / 20 + noise for epoch in epochs]).astype(np.float32)
    correct = np.arange(images) % 3 > 0
    adversarial = np.where(correct[:, None], circle[label] * 0.8, circle[(label + 1) % 10]) * scale + noise
    arrays = {"centres": np.stack([circle * scale * epoch / 20 for epoch in epochs])} if centres else {}
    accuracy = np.array([60.0, 80.0, 90.0, 95.0, 97.5])
    arrays |= {"clean": clean, "adversarial": adversarial.astype(np.float32), "correct": correct, "accuracy": accuracy}
    np.savez(path, epochs=epochs, label=label, eps=np.array(eps), **arrays)


def write_cost(path: Path, seconds: dict[str, list[float]]) -> None:
    """seconds: of each repeat, by method. PCL trains for 30 epochs, the others for 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    epochs = {m: 30 if m == "pcl_deep" else 20 for m in seconds}
    rows = [
        {"method": m, "repeat": i + 1, "seconds": s, "epochs": epochs[m]} for m, own in seconds.items() for i, s in enumerate(own)
    ]
    made_on = {"images": 1294, "network": "small_cnn", "batch_size": 64, "device": "cpu", "threads": 1}
    pd.DataFrame(rows).sort_values("repeat", kind="stable").assign(**made_on).to_csv(path, index=False)


def write_transfer(path: Path, accuracy: dict[tuple[str, str, str, float], float], images: int) -> None:
    """accuracy: % by (source, target, attack, eps)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(*where, images, value) for where, value in accuracy.items()]
    pd.DataFrame(rows, columns=["source", "target", "attack", "eps", "images", "accuracy"]).to_csv(path, index=False)


def make_params(folder: Path, datasets: dict[str, dict[str, Any]], run: dict[str, Any]) -> dict[str, Any]:
    """params.yaml in `folder`: that of the repository with other data sets, each the digits entry with other values of
    `evaluation` and headline, and other lists under `run`."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    base = next(iter(params["datasets"].values()))
    params["datasets"] = {}
    for name, values in datasets.items():
        own = copy.deepcopy(base)
        own["evaluation"].update({key: value for key, value in values.items() if not key.startswith("headline")})
        own.update({key: value for key, value in values.items() if key.startswith("headline")})
        params["datasets"][name] = own
    params["run"] |= {"datasets": list(datasets), **run}
    params["tracking"]["enabled"] = False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return params


def run_stage(name: str, cwd: Path, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", f"stages.{name}"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def strength(method: str, attack: str) -> int:
    """Accuracy in % at the headline eps of a made method: robust with adversarial training, else not; ADP only looks it."""
    if (method, attack) == ("adp", "fgsm"):
        return 60
    level = 60 if "_at" in method or method in ("at", "madry", "atda") else 4 + len(method) % 5
    return {"fgsm": level + 12, "bim": level + 2, "mim": level + 3, "pgd": level}.get(attack, level)


def make_run(folder: Path, images: int = 360) -> None:
    """A whole profile: params.yaml of the repository, and data/ for it, in `folder`."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    params["tracking"]["enabled"] = False
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    data, (dataset,), (seed,) = folder / "data", params["run"]["datasets"], params["run"]["seeds"]
    own, methods = params["datasets"][dataset], params["run"]["methods"]
    evaluation, eps0 = own["evaluation"], own["headline_eps"]
    for method in methods:
        kinds, at = params["measure"][method], data / "attacks" / dataset / method / str(seed)
        counts = {("clean", 0.0): int((0.11 if method == "pcl_1" else 0.97) * images)}
        for e in evaluation["eps"] + (evaluation["sweep"] if "sweep" in kinds else []):
            for attack in LINF:
                share = strength(method, attack) / 100 if e == eps0 else max(0.0, 0.97 - e * (2 if e < eps0 else 3))
                counts[attack, e] = int(share * images)
        if "adaptive" in kinds:
            counts |= {(f"adaptive_{a}", eps0): int((strength(method, a) - 1) / 100 * images) for a in LINF}
        if "cw" in kinds:
            counts |= {("cw", c): int(30 - 10 * i) for i, c in enumerate(evaluation["c"])}
        write_outcomes(at, counts, images, evaluation["cw_images"])
        if "noise" in kinds:
            rng, frame = np.random.default_rng(0), pd.read_parquet(at / "outcomes.parquet")
            noise = [outcome_rows(n, 5.0, 0, images, rng.gamma(9, 0.004, images)) for n in ("noise_sample", "noise_batch")]
            pd.concat([frame, *noise]).to_parquet(at / "outcomes.parquet", index=False)
        standing = [max(0, int(strength(method, "pgd") / 100 * images) - i) for i in range(4)]
        write_verdict(
            data / "verdict" / dataset / method / str(seed), images, clean=counts["clean", 0.0], standing=standing, eps=eps0
        )
        write_features(at, images, {f"layer{i}": 0.15 * i**2 * (1 if "pcl" in method else 0.4) for i in range(1, 6)})
    targets = dict.fromkeys([*methods, *params["transfer"]["sources"]])
    accuracy = {
        (source, target, attack, own["headline_c"] if attack == "cw" else eps0): 20.0 if source == target else 20.0 + 7 * (i % 9)
        for source in params["transfer"]["sources"]
        for i, target in enumerate(targets)
        for attack in (*LINF, "cw")
    }
    write_transfer(data / "transfer" / dataset / f"{seed}.csv", accuracy, images)
    for method in params["planes"]["methods"]:
        write_plane(data / "planes" / dataset / f"{method}.npz", images, centres=method != "softmax_fs", scale=4.0, eps=eps0)
    seconds = {m: [0.5 * (1 + i / 4) * (1 + r / 20) for r in range(5)] for i, m in enumerate(params["cost"]["methods"])}
    write_cost(data / "cost" / f"{dataset}.csv", seconds)
