"""Stage settings: params.yaml -> metrics/settings/DATASET."""

from functools import reduce
from pathlib import Path

import yaml

from pipeline.cli import run_stage
from pipeline.config import load_params, pick

COMPUTE = ["compute.device", "compute.threads"]
MODEL = ["datasets.{dataset}.networks", "datasets.{dataset}.training", "compute.precision", *COMPUTE]
SHARED = {  # by script: params that all its items hang on
    "train": MODEL,
    "cost": [*MODEL, "run.seeds", "cost"],  # and the methods that it times
    "attack": [
        *("run.attacks", "attacks", "autoattack.{autoattack}", "verdict", "noise", "compute.attack_precision", *COMPUTE),
        *(f"datasets.{{dataset}}.{name}" for name in ("evaluation", "headline_eps", "headline_l2")),
    ],
}


def main(dataset: str) -> None:
    """Writes metrics/settings/DATASET/SCRIPT.yaml: the params that all items of a stage hang on. They depend on this file, so that
    dvc.lock, which DVC writes anew after every item, need not repeat the params in each of them."""
    pick(load_params().datasets, dataset, "dataset")
    params = yaml.safe_load(Path("params.yaml").read_text())
    folder = Path("metrics/settings", dataset)
    folder.mkdir(parents=True, exist_ok=True)
    timed = [f"methods.{method}" for method in params["cost"]["methods"]]
    for script, paths in {**SHARED, "cost": [*SHARED["cost"], *timed]}.items():
        names = [path.format(dataset=dataset, autoattack=params["verdict"]["autoattack"]) for path in paths]
        values = {name: reduce(dict.__getitem__, name.split("."), params) for name in names}
        (folder / f"{script}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
