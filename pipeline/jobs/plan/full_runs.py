"""The papers' own runs: which data sets of a run are at their schedule, and the hours that one takes on a machine that is not here,
from the work that the plan counts and the speed of training in metrics/benchmarks."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from pipeline.jobs.learner import build_network
from pipeline.jobs.plan.calibration import Case
from pipeline.jobs.plan.tasks import Task, tasks
from pipeline.params.dataset import Dataset
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, recipe
from pipeline.params.schema import Params, load_params

Schedule = Mapping[str, Mapping[str, int]]  # epochs by name in params.yaml and data set, or `all`
IN_STEPS = {"step": 1.0, "training_gradient": 2 / 3, "gradient": 2 / 3, "forward": 1 / 3}  # forward, backward to images, to weights


class Need(NamedTuple):
    """hours: of one GPU, all stages; chain: of the longest row of items that need each other; disk: in bytes; items: of DVC."""

    hours: float
    chain: float
    disk: int
    items: int


def reduced_sets(params: Params, schedules: Mapping[str, Schedule], papers: Mapping[str, Params]) -> set[tuple[str, str]]:
    """(paper, data set) of which the run has fewer training images than there are, fewer epochs than the paper, or another network
    than the paper's own run, which is in papers."""
    networks = {params.methods[name].network for name in params.run.methods}
    return {
        (paper, dataset)
        for paper, schedule in schedules.items()
        for dataset in params.run.datasets
        if _is_reduced(params.datasets[dataset], papers[paper].datasets.get(dataset), dataset, schedule, networks)
    }


def _is_reduced(own: Dataset, papers: Dataset | None, name: str, schedule: Schedule, networks: Iterable[str]) -> bool:
    shorter = any(own.training.epochs.get(part, 0) < of.get(name, of.get("all", 0)) for part, of in schedule.items())
    other = papers is not None and any(own.networks[used] != papers.networks.get(used) for used in networks)
    return shorter or other or own.sample.train != "all"


def load_runs(root: Path) -> dict[str, Params]:
    """The runs of a checkout by params.yaml, seen from root: its own, then its profiles."""
    files = (root / "params.yaml", *sorted(root.glob("profiles/*/params.yaml")))
    return {path.relative_to(root).as_posix(): load_params(path, LOOKUPS) for path in files}


def training_texts(params: Params) -> dict[str, str]:
    """Network, batch, adversaries and precision by data set, in words."""
    return {dataset: _training_text(params, dataset) for dataset in params.run.datasets}


def _training_text(params: Params, dataset: str) -> str:
    own = params.datasets[dataset]
    recipes = [recipe(params, dataset, method) for method in params.run.methods if params.methods[method].given is None]
    attacks = [one.adversary.attack for one in recipes if one.adversary]
    names = sorted({f"{attack.name.upper()}{_steps(attack.options)}" for attack in attacks})
    precision = {"training": params.compute.precision, "attacks": params.compute.attack_precision}
    names += [f"{what} in bf16" for what, number in precision.items() if number == "bf16"]
    networks = ", ".join(dict.fromkeys(one.network.text for one in recipes))
    return ", ".join([f"{networks}, batches of {own.training.batch_size}", *names])


def source_texts(params: Params) -> dict[str, str]:
    """By data set the networks, in words, whose images are shown to the others."""
    return {dataset: _source_text(params, dataset) for dataset in params.run.datasets}


def _source_text(params: Params, dataset: str) -> str:
    sources = [recipe(params, dataset, source) for source in params.transfer.sources]
    return ", ".join(dict.fromkeys(source.network.text for source in sources)) or "-"


def _steps(options: Mapping[str, Any]) -> str:
    return f" of {options['steps']} steps" if "steps" in options else ""


def read_speeds(folder: Path) -> dict[str, float]:
    """Images a second in training, by network: the median of the repeats of benchmark `training`."""
    return {str(name): float(rows["ours"].median()) for name, rows in pd.read_csv(folder / "training.csv").groupby("network")}


def needs(params: Params, speeds: Mapping[str, float], seeds: int = 1) -> dict[str, Need]:
    """By data set. speeds: `read_speeds`; a network that was not timed counts as the slowest of them. With several seeds the items
    of a chain count as often."""
    params = params.model_copy(update={"run": params.run.model_copy(update={"seeds": list(range(seeds))})})
    counted = list(tasks(all_items(params)))
    return {dataset: _need([task for task in counted if task.dataset == dataset], speeds) for dataset in params.run.datasets}


def _need(own: Sequence[Task], speeds: Mapping[str, float]) -> Need:
    hours: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # by stage and method
    disk = 0
    for task in own:
        if task.case:
            speed = speeds.get(task.case.name().partition(",")[0], min(speeds.values()))
            steps = sum(share * getattr(task.work, unit) for unit, share in IN_STEPS.items())
            hours[task.stage][task.method] += (steps / speed + task.seconds) / 3600
            parameters, width = _size(task.case)
            disk += 4 * (task.models * parameters + task.features * width)
        disk += task.bytes
    trained = hours["finetune"] | hours["sources"]
    attacked = max(trained[method] + value for method, value in hours["attack"].items())
    shown = max(trained.values()) + sum(hours["transfer"].values())
    total, chain = sum(sum(each.values()) for each in hours.values()), sum(hours["pretrain"].values()) + max(attacked, shown)
    return Need(total, chain, disk, len({task.item for task in own}))


@cache
def _size(case: Case) -> tuple[int, int]:
    """Numbers in a model's file, and features of all layers together."""
    half = torch.full((case.shape[0],), 0.5)
    network = build_network(json.loads(case.recipe)["network"], 1, case.classes, half, half)
    return sum(tensor.numel() for tensor in network.state_dict().values()), sum(network.dims.values())
