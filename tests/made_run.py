"""Made files as the stages attack, verdict, transfer, planes and cost leave them, with known counts of right answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pipeline.evaluation.robustness import summary_metrics
from pipeline.jobs.prototypes import figures
from pipeline.reporting.published import NAMES, Paper
from pipeline.reporting.verdict.prototypes import prototypes_frame
from pipeline.runtime.sums import write_sums

ROOT = Path(__file__).parents[1]
LINF = ("fgsm", "bim", "mim", "pgd")


def outcome_rows(attack: str, eps: float, right: int, images: int, mse: np.ndarray | float = 0.0) -> pd.DataFrame:
    """The first `right` of `images` images are classified right; labels go round ten classes."""
    i = np.arange(images)
    correct = i < right
    columns = {"image": i.astype(np.int32), "label": (i % 10).astype(np.int16), "attack": attack, "eps": eps}
    columns |= {"prediction": np.where(correct, i % 10, (i + 1) % 10).astype(np.int16), "correct": correct}
    linf = 1.0 if attack == "cw" or attack.startswith(("noise", "autoattack_l2")) else min(eps, 1)  # eps is another thing there
    return pd.DataFrame({**columns, "linf": np.float32(linf), "l2": np.float32(1), "mse": np.float32(mse)})


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
    rng, image = np.random.default_rng(0), standing[0] + np.arange(examples)  # that the first part breaks
    clean_image, label = rng.uniform(size=(examples, 1, 8, 8)).astype(np.float32), image % 10
    adversarial = (clean_image + eps * np.sign(rng.normal(size=clean_image.shape))).clip(0, 1).astype(np.float32)
    arrays = {"image": image, "clean": clean_image, "adversarial": adversarial, "label": label}
    arrays |= {"prediction": (label + 1) % 10, "confidence": np.linspace(0.99, 0.8, examples, dtype=np.float32)}
    arrays |= {"attack": np.array(["autoattack/apgd_ce"] * examples, dtype="U32"), "classes": np.array([str(i) for i in range(10)])}
    np.savez(folder / "examples.npz", **arrays)


def write_record(data: Path, model: tuple[str, str, str]) -> None:
    """run.json of one (dataset, method, seed), of the files that are there."""
    attacks, verdict = (data / stage / Path(*model) for stage in ("attacks", "verdict"))
    outcomes = pd.read_parquet(verdict / "outcomes.parquet")
    whole = outcomes[~outcomes["attack"].str.startswith(("autoattack/", "autoattack_l2/"))]
    metrics = summary_metrics(pd.read_parquet(attacks / "outcomes.parquet")) | summary_metrics(whole)
    metrics |= {f"check/{name}": value for name, value in json.loads((verdict / "checks.json").read_text()).items()}
    if (prototypes := verdict / "prototypes.parquet").exists():
        metrics |= figures(pd.read_parquet(prototypes))
    (attacks / "run.json").write_text(json.dumps({"model": "/".join(model), "metrics": metrics}))


def write_verdict_tables(tables: Path, status: dict[tuple[str, str], str], labels: dict[str, str], eps: dict[str, float]) -> None:
    """verdict.csv and verdict_status.csv by hand. status: by (dataset, method); eps: by data set."""
    leaves = {
        "holds": (60, 55),
        "masked gradients": (60, 52),
        "only looked robust": (70, 2),
        "does not hold": (3, 0),
        "does not learn": (8, 1),
    }
    rows, methods = [], []
    for order, ((dataset, method), found) in enumerate(status.items()):
        name = {"dataset": dataset, "method": method, "label": labels.get(method, method), "group": "Some methods"}
        paper, left = leaves[found]
        left = max(left - order / 10, 0)
        interval = {
            "images": 100,
            "ci95_low": left - 1,
            "ci95_high": left + 1,
            "seeds": 1,
            "chance": 10.0,
            "seed_std": float("nan"),
        }
        values = {"clean": 97.5, "pgd": paper, "fgsm": paper + 9, "adaptive": left + 1, "autoattack": left, "robust": left}
        rows += [
            {**name, "metric": "accuracy", "attack": a, "eps": eps[dataset], "measured": v, **interval} for a, v in values.items()
        ]
        methods.append({**name, "status": found, "note": f"Keeps {left:.1f} %.", "flags": order % 3, "confirmed": ""})
    for file, content in {"verdict": rows, "verdict_status": methods}.items():
        pd.DataFrame(content).to_csv(tables / f"{file}.csv", index=False)
    prototypes_frame({}, pd.DataFrame(columns=["dataset", "method", "attack", "measured"]), {}).to_csv(
        tables / "prototypes.csv", index=False
    )
    write_sums(tables)


def write_prototypes(folder: Path, images: int, *, right: tuple[int, int, int], member: tuple[int, int] | None, eps: float) -> None:
    """prototypes.parquet. right: by the nearest prototype on clean images, after the attack on the logits, in the worst case;
    member: how many clean images are accepted, all of them rightly, and how many are wrong and accepted under attack."""
    clean, logits, worst = right
    frames = [
        outcome_rows("nearest/clean", 0.0, clean, images),
        outcome_rows("nearest/logits", eps, logits, clean),
        outcome_rows("nearest/ratio", eps, worst, logits),
        outcome_rows("nearest", eps, worst, images),
    ]
    rows = pd.concat(frames).assign(accepted=True)
    if member is not None:
        clean_rows = outcome_rows("membership/clean", 0.0, member[0], images)
        attacked = [outcome_rows(name, eps, 0, images) for name in ("membership/logits", "membership/any", "membership")]
        broken = [rows.assign(accepted=rows["image"] < member[1] // (2 if i == 0 else 1)) for i, rows in enumerate(attacked)]
        rows = pd.concat([rows, clean_rows.assign(accepted=clean_rows["correct"]), *broken])
    rows.assign(layer="layer5").to_parquet(folder / "prototypes.parquet", index=False)


def write_plane(path: Path, images: int, *, centres: bool, scale: float, eps: float = 0.1) -> None:
    """Ten classes on a circle that grows with the epochs; every third PGD image lands on the next class and is misclassified."""
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
    model = np.array(f"{path.parent.name}/{path.stem}")
    np.savez(path, model=model, epochs=epochs, label=label, eps=np.array(eps), **arrays)


def write_cost(path: Path, seconds: dict[str, list[float]]) -> None:
    """seconds: of each repeat, by method. PCL trains for 30 epochs, the others for 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    epochs = {m: 30 if m == "pcl_deep" else 20 for m in seconds}
    rows = [
        {"method": m, "repeat": i + 1, "seconds": s, "epochs": epochs[m]} for m, own in seconds.items() for i, s in enumerate(own)
    ]
    made_on = {"dataset": path.stem, "images": 1294, "network": "small_cnn", "batch_size": 64, "device": "cpu", "threads": 1}
    pd.DataFrame(rows).sort_values("repeat", kind="stable").assign(**made_on).to_csv(path, index=False)


def write_transfer(path: Path, accuracy: dict[tuple[str, str, str, float], float], images: int) -> None:
    """accuracy: % by (source, target, attack, eps); and beside the table the outcomes by image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [
        outcome_rows(attack, eps, round(value * images / 100), images).assign(source=source, target=target)
        for (source, target, attack, eps), value in accuracy.items()
    ]
    origin = {"dataset": path.parent.name, "seed": int(path.stem)}
    pd.concat(frames).drop(columns="mse").assign(**origin).to_parquet(path.with_suffix(".parquet"), index=False)
    rows = [(*where, images, value) for where, value in accuracy.items()]
    table = pd.DataFrame(rows, columns=["source", "target", "attack", "eps", "images", "accuracy"])
    table.assign(**origin).to_csv(path, index=False)


SOURCES = {"vgg": "VGG-19", "vgg_at_fgsm": "VGG-19 AT-FGSM"}
METHODS = {  # label, papers, what it is (f: loss on features, a: adversarial training, o: other), what is measured besides
    "softmax_fs": ("SM (FS)", "hcp pcl", "", "noise cw sweep"),
    "at": ("AT (SM)", "hcp", "a", "noise sweep"),
    "center": ("CL (SM)", "hcp", "f", "noise adaptive"),
    "pcl": ("PCL (SM)", "hcp pcl", "f", "noise adaptive"),
    "hcp": ("HCP (SM)", "hcp", "f", "noise adaptive sweep"),
    "hcp_fs": ("HCP (FS)", "hcp", "f", "noise"),
    "hcp_m_p": ("HCP M+P", "hcp", "f", "noise"),
    "hcp_m_np": ("HCP M+NP", "hcp", "f", "noise"),
    "hcp_p_np": ("HCP P+NP", "hcp", "f", "noise"),
    "hcp_at": ("HCP + AT", "hcp", "fa", "noise adaptive"),
    "pcl_deep": ("PCL (3+4+5)", "pcl", "f", "cw adaptive sweep"),
    "pcl_at_fgsm": ("PCL + AT-FGSM", "pcl", "fa", "cw adaptive"),
    "pcl_at_pgd": ("PCL + AT-PGD", "pcl", "fa", "cw adaptive sweep"),
    "at_fgsm": ("AT-FGSM (Kurakin)", "pcl", "a", "cw"),
    "madry": ("Madry", "pcl", "a", "cw"),
    "input_gradient": ("Input gradient (Ross)", "pcl", "o", "cw"),
    "adp": ("ADP (Pang)", "pcl", "o", "cw"),
    "atda": ("ATDA (Song)", "pcl", "oa", ""),
    "softmax_deep": ("SM (3+4+5)", "pcl", "f", ""),
    "center_deep": ("CL (3+4+5)", "pcl", "f", "adaptive"),
    "contrastive": ("Contrastive", "pcl", "f", ""),
    "triplet": ("Triplet", "pcl", "f", ""),
    **{f"pcl_{layer}": (f"PCL ({layer})", "pcl", "f", "") for layer in range(1, 6)},
    "trades": ("TRADES", "", "a", ""),
}
OWN = {"mine", "trades", "awp"}  # methods without a published key
DIGITS = {
    "eps": [0.05, 0.1, 0.15],
    "sweep": [0.2, 0.3, 0.5, 1.0],
    "c": [0.01, 0.1, 1.0],
    "table_eps": 0.15,
    "table_c": 0.1,
    "headline_eps": 0.15,
    "epochs": {"pretrain": 10, "train": 20},
}


def made_method(name: str) -> dict[str, Any]:
    label, papers, kind, measure = METHODS.get(name, (name, "hcp", "f", "noise"))
    kinds = {"features": "f" in kind, "adversarial": "a" in kind, "other": "o" in kind}
    published = None if name in OWN else name
    return {"label": label, "papers": papers.split(), "published": published, "kind": kinds, "measure": measure.split()}


def made_item(
    methods: Iterable[str] = METHODS, datasets: dict[str, dict[str, Any]] | None = None, **changes: Any
) -> dict[str, Any]:
    """What is in data/items/tables.yaml. datasets: what differs from `DIGITS`, by name; changes: of single entries."""
    names = list(methods)
    return {
        "root": ".",
        "seeds": [0],
        "datasets": {name: DIGITS | own for name, own in (datasets or {"digits": {}}).items()},
        "methods": {name: made_method(name) for name in names},
        "sources": {name: {"label": label, "published": name} for name, label in SOURCES.items()},
        "transfer": ["vgg", "vgg_at_fgsm", *(name for name in ("madry", "pcl_at_pgd") if name in names)],
        "noise_stop": ["sample", "batch"],
        "cw": {"confidence": 0.0, "learning_rate": 0.05, "steps": 200, "binary_search_steps": 1},
        "autoattack": {
            "version": "rapid",
            "parts": {"apgd_ce": "apgd", "apgd_t": "apgd_targeted", "fab_t": "fab", "square": "square"},
        },
        "statistics": {"alpha": 0.1, "compare": ["at", "center", "pcl", "hcp"]},
        "planes": [name for name in ("softmax_fs", "pcl_deep") if name in names],
        "cost": [name for name in ("softmax_fs", "center_deep", "contrastive", "triplet", "pcl_deep", "hcp") if name in names],
        "lacks": [],
        "code": {},
        **changes,
    }


def made_paper(keys: dict[str, str], labels: dict[str, str] | None = None) -> Paper:
    """keys: published key by method."""
    return Paper(
        keys, {method: method for method in keys} | (labels or {}), NAMES | {k: (labels or {}).get(m, m) for m, k in keys.items()}
    )


def write_items(folder: Path, item: dict[str, Any]) -> None:
    """data/items and a params.yaml for the page to show."""
    (folder / "data/items").mkdir(parents=True, exist_ok=True)
    for stage in ("tables", "figures", "cards", "report"):
        (folder / f"data/items/{stage}.yaml").write_text(yaml.safe_dump(item, sort_keys=False))
    write_sums(folder / "data/items")
    text = "extends: ../../params.yaml\nrun:\n  seeds: [0]\nmilestones: [0.355]\ntracking: {uri: 'http://user:secret@server.example:5000'}\n"
    (folder / "params.yaml").write_text(text)


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


def make_run(folder: Path, images: int = 360, item: dict[str, Any] | None = None) -> None:
    """A profile in `folder`: items, params.yaml and data/ of every stage before the tables."""
    item = item or made_item()
    write_items(folder, item)
    for dataset, own in item["datasets"].items():
        write_data(folder, dataset, images)
        for seed in item["seeds"]:
            for method, about in item["methods"].items():
                make_model(folder / "data", (dataset, method, str(seed)), own, about["measure"], images)
            targets = [*item["methods"], *item["sources"]]
            accuracy = {
                (source, target, attack, own["table_c"] if attack == "cw" else own["table_eps"]): (
                    100 * round((0.2 if source == target else 0.2 + 0.07 * (i % 9)) * images) / images
                )
                for source in item["transfer"]
                for i, target in enumerate(targets)
                for attack in (*LINF, "cw")
            }
            write_transfer(folder / "data/transfer" / dataset / f"{seed}.csv", accuracy, images)
        for method in item["planes"]:
            path = folder / "data/planes" / dataset / f"{method}.npz"
            write_plane(path, images, centres=method != "softmax_fs", scale=4.0, eps=own["table_eps"])
        seconds = {m: [0.5 * (1 + i / 4) * (1 + r / 20) for r in range(5)] for i, m in enumerate(item["cost"])}
        write_cost(folder / "data/cost" / f"{dataset}.csv", seconds)


def write_data(folder: Path, dataset: str, images: int) -> None:
    """What stage data says of a set."""
    counts = folder / "metrics/data" / f"{dataset}.json"
    counts.parent.mkdir(parents=True, exist_ok=True)
    counts.write_text(json.dumps({"images": {"train": 10 * images, "validation": images, "test": images}}))


def make_model(data: Path, model: tuple[str, str, str], own: dict[str, Any], measure: list[str], images: int) -> None:
    """data/attacks and data/verdict of one (dataset, method, seed). own: its data set; measure: besides the attacks."""
    folder, method, eps0 = data / "attacks" / Path(*model), model[1], own["headline_eps"]
    counts = {("clean", 0.0): int((0.11 if method == "pcl_1" else 0.97) * images)}
    for e in own["eps"] + (own["sweep"] if "sweep" in measure else []):
        for attack in LINF:
            share = strength(method, attack) / 100 if e == eps0 else max(0.0, 0.97 - e * (2 if e < eps0 else 3))
            counts[attack, e] = int(share * images)
    if "adaptive" in measure:
        counts |= {(f"adaptive_{a}", own["table_eps"]): int((strength(method, a) - 1) / 100 * images) for a in LINF}
    if "cw" in measure:
        counts |= {("cw", c): int(30 - 10 * i) for i, c in enumerate(own["c"])}
    write_outcomes(folder, counts, images, cw_images=min(100, images))
    if "noise" in measure:
        rng, frame = np.random.default_rng(0), pd.read_parquet(folder / "outcomes.parquet")
        noise = [outcome_rows(n, 5.0, 0, images, rng.gamma(9, 0.004, images)) for n in ("noise_sample", "noise_batch")]
        pd.concat([frame, *noise]).to_parquet(folder / "outcomes.parquet", index=False)
    standing = [max(0, int(strength(method, "pgd") / 100 * images) - i) for i in range(4)]
    write_verdict(data / "verdict" / Path(*model), images, clean=counts["clean", 0.0], standing=standing, eps=eps0)
    if "pcl" in method or "hcp" in method:
        right = int(0.96 * images), standing[-1] + 9, standing[-1]
        member = (images // 2, int(0.8 * images)) if "hcp" in method else None
        write_prototypes(data / "verdict" / Path(*model), images, right=right, member=member, eps=eps0)
    write_record(data, model)
    write_features(folder, images, {f"layer{i}": 0.15 * i**2 * (1 if "pcl" in method else 0.4) for i in range(1, 6)})
