"""A plan: what the counted work takes on this machine, by stage, method and data set."""

import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import pandas as pd
import torch

from pipeline.jobs.plan.calibration import DVC_START, Case, Speed, calibrate, has_bf16, process_start
from pipeline.jobs.plan.tasks import Items, Task, tasks
from pipeline.params.items import AttackItem, Compute, TrainItem

# In FLOPs of a forward: a backward to weights and images is two, to the images alone one
PASSES = {"step": 3, "training_gradient": 2, "gradient": 2, "forward": 1}
ALONE = ("items", "cost", "tables", "figures", "cards", "report")  # stages that run by themselves in `make repro` too
PARTS = {"pretrain": "train", "finetune": "train", "sources": "train", "attack": "attack"}
SUMS = {"items": "nunique", "steps": "sum", "gradients": "sum", "forwards": "sum", "flops": "sum", "hours": "sum"}
Plan = dict[str, Any]


def make_plan(items: Items, jobs: int, chosen: Container[str] | None = None) -> Plan:
    """Calibrates every network of the run, with a line on stderr for each. chosen: items as DVC calls them, or all."""
    counted = [task for task in tasks(items) if chosen is None or task.item in chosen]
    if not counted:
        raise ValueError("nothing that takes time has changed")
    compute = next(item.compute for item in items.values() if isinstance(item, TrainItem))
    attack_compute = next(item.compute for item in items.values() if isinstance(item, AttackItem))
    device = torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")
    if "bf16" in (compute.precision, attack_compute.precision) and not has_bf16(device):
        print(f"warning: bf16 without instructions for it in this {device.type}: fp32 is many times faster", file=sys.stderr)
    cases, speeds = list(dict.fromkeys(task.case for task in counted if task.case)), {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for number, case in enumerate(cases, 1):
            print(f"calibrating {number}/{len(cases)}: {case.name()}", file=sys.stderr, flush=True)
            try:
                speeds[case] = processes.submit(calibrate, case, compute, attack_compute).result()
            except BrokenProcessPool:
                raise ValueError(f"{case.name()}: the process was killed; does it need more memory than there is?") from None
    starts = {"training": process_start(training=True), "attack": process_start(training=False), "other": DVC_START}
    return summed_up(counted, speeds, starts, compute, jobs)


def summed_up(
    counted: Sequence[Task], speeds: Mapping[Case, Speed], starts: Mapping[str, float], compute: Compute, jobs: int
) -> Plan:
    """starts: seconds of an item besides its work, by kind. Rows by stage, method, data set and network; images, hours, bytes."""
    rows = pd.DataFrame([_row(task, speeds[task.case] if task.case else None) for task in counted])
    begins = rows["begins"].map(starts) / 3600
    rows["hours"] += begins / rows.groupby("items")["items"].transform("size")
    total, by_part = rows["hours"].sum(), rows.assign(part=rows["stage"].map(PARTS).fillna("other"))
    methods = by_part.pivot_table(index="method", columns="part", values="hours", aggfunc="sum", fill_value=0.0)
    methods = methods.reindex(columns=["train", "attack", "other"], fill_value=0.0)
    methods = methods.assign(hours=methods.sum(axis=1), share=methods.sum(axis=1) / total).sort_values("hours", ascending=False)
    datasets = rows.groupby("dataset", sort=False).agg(SUMS)
    gpu, cores = compute.device != "cpu" and torch.cuda.is_available(), os.cpu_count() or 1
    at_once = 1 if gpu else max(1, min(jobs, cores // (compute.threads or cores)))
    alone = rows.loc[rows["stage"].isin(ALONE), "hours"].sum()
    return {
        "stages": _records(rows.groupby("stage", sort=False).agg(SUMS)),
        "methods": _records(methods),
        "datasets": _records(datasets.assign(share=datasets["hours"] / total)),
        "networks": [{"network": case.name(), **speed._asdict()} for case, speed in speeds.items()],
        "total": {
            "hours": float(total),
            "hours_side_by_side": float(alone + (total - alone) / at_once),
            **{"jobs": jobs, "at_once": at_once, "device": "GPU" if gpu else "CPU", "start_seconds": dict(starts)},
            "disk": {name: int(rows[name].sum()) for name in ("datasets", "models", "attacks")},
            "memory": int(rows["memory"].max()),
        },
    }


def as_text(plan: Plan) -> str:
    total, disk = plan["total"], plan["total"]["disk"]
    many = f"{_hours(total['hours_side_by_side'])} with {total['jobs']} jobs, {total['at_once']} at once, each on a core of its own"
    if total["at_once"] == 1:
        many = "no less with more jobs, which share the " + ("GPU" if total["device"] == "GPU" else "cores")
    closing = [
        f"Time: {_hours(total['hours'])} one after the other; {many}. Downloads not included.",
        f"Disk: {_scaled(sum(disk.values()))}B ({', '.join(f'{name} {_scaled(size)}B' for name, size in disk.items())}), and as "
        "much again in DVC's cache where the file system does not share blocks.",
        f"Memory of the largest process: {_scaled(total['memory'])}B{' on the GPU' if total['device'] == 'GPU' else ''}.",
        "Steps: forward, backward, update. Gradients: forward and backward to the image, in attacks. Attacks stop at images that "
        "are misclassified; how soon is an estimate from the digits.",
    ]
    tables = plan["stages"], _together(plan["methods"]), plan["datasets"], plan["networks"]
    return "\n\n".join([*map(_table, tables), "\n".join(closing)])


def _together(methods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those with less than a hundredth of the time each in one row, as all that do not change have where one does."""
    small = [row for row in methods if row["share"] < 0.01]
    if len(small) < 2:
        return list(methods)
    summed = {str(name): value for name, value in pd.DataFrame(small).drop(columns="method").sum().items()}
    return [*(row for row in methods if row["share"] >= 0.01), {"method": f"{len(small)} others", **summed}]


def _row(task: Task, speed: Speed | None) -> dict[str, Any]:
    work, flops, seconds, memory, models, features = task.work, 0.0, task.seconds, 0, 0, 0
    begins = "training" if work.step else "attack" if speed else "other"  # reporting's seconds have its imports
    if speed:
        images = {unit: getattr(work, unit) for unit in PASSES}
        flops = speed.flops * sum(PASSES[unit] * count for unit, count in images.items())
        seconds += sum(getattr(speed, unit) * count for unit, count in images.items())
        memory, models, features = speed.memory + task.memory, task.models * speed.parameters * 4, task.features * speed.width * 4
    return {
        **{"stage": task.stage, "items": task.item, "dataset": task.dataset or "all", "method": task.method or "all"},
        **{"steps": work.step, "gradients": work.training_gradient + work.gradient, "forwards": work.forward},
        **{"flops": flops, "begins": begins, "hours": seconds / 3600, "memory": memory, "models": models},
        **{"datasets": task.bytes if task.stage == "data" else 0, "attacks": features + task.bytes * (task.stage == "attack")},
    }


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.reset_index().to_dict("records")]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    table, shown = pd.DataFrame(rows), {}
    for column in map(str, table):
        heading, text = FORMATS.get(column, (column, str))
        shown[heading] = table[column].map(text)
    return str(pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True))


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.1f} s"


def _scaled(number: float) -> str:
    """With the letter that its unit begins with."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{_number(number)} P"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or not number else f"{number:.3g}"


FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {  # column: its heading and how it is written
    "flops": ("FLOPs", lambda count: _scaled(count) + "FLOP"),
    "share": ("share", lambda share: f"{100 * share:.1f} %"),
    "memory": ("memory", lambda count: _scaled(count) + "B"),
    **{name: (f"million {name}", lambda count: _number(count / 1e6)) for name in ("steps", "gradients", "forwards", "parameters")},
    "hours": ("time", _hours),
    **{name: (name, _hours) for name in ("train", "attack", "other")},
    **{name: (f"{name.replace('_', ' ')}, us", lambda seconds: _number(1e6 * seconds)) for name in PASSES},
}
