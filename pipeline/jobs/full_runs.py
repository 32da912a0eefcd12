"""The papers' own runs: which data sets of a run are at their schedule, and the hours that one takes on a machine that is not here,
from the work that the plan counts and the speed of training in metrics/benchmarks."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.jobs.plan import tasks
from pipeline.params.resolve import all_items
from pipeline.params.schema import Params

Schedule = Mapping[str, Mapping[str, int]]  # epochs by name in params.yaml and data set, or `all`
IN_STEPS = {"step": 1.0, "training_gradient": 2 / 3, "gradient": 2 / 3, "forward": 1 / 3}  # forward, backward to images, to weights


def reduced_sets(params: Params, schedules: Mapping[str, Schedule]) -> set[tuple[str, str]]:
    """(paper, data set) of which the run has fewer training images than there are, or fewer epochs than the paper."""
    return {
        (paper, dataset)
        for paper, schedule in schedules.items()
        for dataset in params.run.datasets
        if params.datasets[dataset].sample.train != "all"
        or any(
            params.datasets[dataset].training.epochs[name] < epochs.get(dataset, epochs.get("all", 0))
            for name, epochs in schedule.items()
        )
    }


def method_keys(params: Params) -> set[str]:
    """Of the run's methods, as published.csv calls them."""
    return {params.methods[name].published or "" for name in (*params.run.methods, *params.transfer.sources)}


def read_speeds(folder: Path) -> dict[str, float]:
    """Images a second in training, by network: the median of the repeats of benchmark `training`."""
    return {str(name): float(rows["ours"].median()) for name, rows in pd.read_csv(folder / "training.csv").groupby("network")}


def gpu_hours(params: Params, speeds: Mapping[str, float]) -> dict[str, float]:
    """By data set, all stages. speeds: `read_speeds`; a network that was not timed counts as the slowest of them."""
    hours: dict[str, float] = defaultdict(float)
    for task in tasks(all_items(params)):
        if task.case:
            speed = speeds.get(task.case.name().partition(",")[0], min(speeds.values()))
            steps = sum(share * getattr(task.work, unit) for unit, share in IN_STEPS.items())
            hours[task.dataset] += (steps / speed + task.seconds) / 3600
    return dict(hours)
