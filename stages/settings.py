"""Stage settings: params.yaml -> metrics/settings/DATASET."""

from functools import reduce
from pathlib import Path

import yaml

from pipeline.cli import run_stage
from pipeline.config import load_params, pick

COMPUTE = ["compute.device", "compute.threads"]
MODEL = ["datasets.{dataset}.networks", "datasets.{dataset}.training", "compute.precision", *COMPUTE]
MEASURED = ["datasets.{dataset}.evaluation", "datasets.{dataset}.headline_eps", "compute.attack_precision", *COMPUTE]
SHARED = {  # by script: params that all its items hang on
    "train": MODEL,
    "attack": [
        *("run.attacks", "attacks", "autoattack.{autoattack}", "verdict", "noise", "datasets.{dataset}.headline_l2"),
        *MEASURED,
    ],
    "planes": ["run.seeds", "planes.epochs", "attacks.pgd", *MODEL, *MEASURED],
    "cost": ["run.seeds", "cost", *MODEL],  # and the methods that it times
}


def main(dataset: str) -> None:
    """Writes metrics/settings/DATASET/SCRIPT/METHOD.yaml, and SCRIPT.yaml where methods are no items: the params that one item of a
    stage hangs on. It depends on this file, so that dvc.lock, which DVC writes anew after every item, need not have them all."""
    pick(load_params().datasets, dataset, "dataset")
    params = yaml.safe_load(Path("params.yaml").read_text())
    run, planes, timed = params["run"], params["planes"]["methods"], params["cost"]["methods"]
    items = {f"train/{method}": ("train", [f"methods.{method}"]) for method in [*run["scratch"], *run["finetune"]]}
    items |= {f"attack/{method}": ("attack", [f"measure.{method}"]) for method in run["methods"]}
    items |= {f"planes/{method}": ("planes", [f"methods.{method}"]) for method in planes}
    items |= {"cost": ("cost", [f"methods.{method}" for method in timed])}
    for item, (script, own) in items.items():
        names = [name.format(dataset=dataset, autoattack=params["verdict"]["autoattack"]) for name in [*own, *SHARED[script]]]
        values = {name: reduce(dict.__getitem__, name.split("."), params) for name in dict.fromkeys(names)}
        file = Path("metrics/settings", dataset, f"{item}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.dump(values, Dumper=Plain, sort_keys=False))


class Plain(yaml.SafeDumper):
    """What params.yaml has by reference is written out."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
