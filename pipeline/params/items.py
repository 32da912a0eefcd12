"""Which params a model is trained, attacked or drawn with: the files that items of dvc.yaml depend on. Otherwise dvc.lock, which
DVC writes anew after every item, would have the params of them all."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import yaml

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


def item_settings(params: Mapping[str, Any], dataset: str) -> dict[str, str]:
    """params: all of params.yaml, as it reads -> for SCRIPT/METHOD, and SCRIPT where methods are no items, YAML of the params that
    the item hangs on, by their paths."""
    run, planes, timed = params["run"], params["planes"]["methods"], params["cost"]["methods"]
    own = {f"train/{method}": [f"methods.{method}"] for method in [*run["scratch"], *run["finetune"]]}
    own |= {f"attack/{method}": [f"measure.{method}"] for method in run["methods"]}
    own |= {f"planes/{method}": [f"methods.{method}"] for method in planes}
    own |= {"cost": [f"methods.{method}" for method in timed]}
    settings = {}
    for item, names in own.items():
        shared = [name.format(dataset=dataset, autoattack=params["verdict"]["autoattack"]) for name in SHARED[item.split("/")[0]]]
        values = {name: reduce(lambda part, key: part[key], name.split("."), params) for name in [*names, *shared]}
        settings[item] = yaml.dump(values, Dumper=Plain, sort_keys=False)
    return settings


class Plain(yaml.SafeDumper):
    """What params.yaml has by reference is written out."""

    def ignore_aliases(self, data: object) -> bool:
        return True
