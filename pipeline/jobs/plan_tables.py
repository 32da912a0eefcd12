"""A plan: what the counted work takes on this machine, by stage, method and data set."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from pipeline.jobs.calibration import DVC_START, Case, Speed, calibrate, process_start
from pipeline.jobs.plan import Items, Task, tasks
from pipeline.params.items import AttackItem, Compute, TrainItem

PASSES = {"step": 3, "training_gradient": 2, "gradient": 2, "forward": 1}  # in FLOPs of a forward: a backward to weights and
# images is two, to the images alone one
ALONE = ("items", "cost", "tables", "figures", "cards", "report")  # stages that run by themselves in `make repro` too
PARTS = {"pretrain": "train", "finetune": "train", "sources": "train", "attack": "attack"}
SUMS = {"items": "nunique", "steps": "sum", "gradients": "sum", "forwards": "sum", "flops": "sum", "hours": "sum"}
Plan = dict[str, Any]


def make_plan(items: Items, jobs: int) -> Plan:
    """Calibrates every network of the run, with a line on stderr for each."""
    counted = list(tasks(items))
    compute = next(item.compute for item in items.values() if isinstance(item, TrainItem))
    attack_compute = next(item.compute for item in items.values() if isinstance(item, AttackItem))
    cases, speeds = list(dict.fromkeys(task.case for task in counted if task.case)), {}
    for number, case in enumerate(cases, 1):
        print(f"calibrating {number}/{len(cases)}: {case.name()}", file=sys.stderr, flush=True)
        speeds[case] = calibrate(case, compute, attack_compute)
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
    if total["device"] == "GPU":
        beside = "no sooner with several jobs, which share the GPU"
    else:
        beside = f"{_hours(total['hours_side_by_side'])} with {total['jobs']} jobs, {total['at_once']} at once on as many cores"
    parts = [_table(plan[name]) for name in ("stages", "methods", "datasets", "networks")]
    closing = [
        f"Time: {_hours(total['hours'])} one after the other; {beside}. Downloads come to it.",
        f"Disk: {_bytes(sum(disk.values()))}: "
        + ", ".join(f"{name} {_bytes(size)}" for name, size in disk.items())
        + ". DVC's cache "
        "takes as much again where the file system cannot share blocks.",
        f"Memory of the largest process: {_bytes(total['memory'])}{' on the GPU' if total['device'] == 'GPU' else ''}.",
        "Gradients are at the image, in attacks. Attacks stop at images that are misclassified: how many are, is an estimate.",
    ]
    return "\n\n".join([*parts, "\n".join(closing)])


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
    """Numbers as people read them, by the name of their column."""
    table, shown = pd.DataFrame(rows), {}
    for name in table:
        text, head = FORMATS.get(str(name), (str, name))
        shown[head] = table[name].map(text)
    return str(pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True))


def _hours(hours: float) -> str:
    if hours >= 0.1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.1f} s"


def _scaled(number: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    return f"{number:,.3g} P{unit}"


def _bytes(count: float) -> str:
    return _scaled(count, "B")


def _flops(count: float) -> str:
    return _scaled(count, "FLOP")


def _millions(count: float) -> str:
    return f"{count / 1e6:,.3g}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _micro(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f}"


FORMATS = {
    **{"steps": (_millions, "M training steps"), "gradients": (_millions, "M gradients"), "forwards": (_millions, "M forwards")},
    **{name: (_hours, name) for name in ("hours", "train", "attack", "other")},
    "share": (_share, "share"),
    "flops": (_flops, "FLOPs"),
    "step": (_micro, "training step, us"),
    "training_gradient": (_micro, "gradient in training, us"),
    "gradient": (_micro, "gradient, us"),
    "forward": (_micro, "forward, us"),
    "parameters": (_millions, "M parameters"),
    "memory": (_bytes, "memory"),
}
