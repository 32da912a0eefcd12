"""Peak memory of training and evaluation, each in a process of its own: of the process on a CPU, of its tensors on a GPU.
`python -m benchmarks.memory`."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks import attacks
from benchmarks.machine import best_precision
from benchmarks.measure import Size, child_json
from benchmarks.peers import LIBRARIES, Task, lacking
from benchmarks.results import Report, Target, parse, run_main, start, write
from benchmarks.subjects import LOSSES, NETWORKS, blank_network, load_images
from pipeline.params.schema import load_params

GB = 1e9
EVALUATION_GB = 1.5  # for images of CIFAR-10's size
EPS, SHORT = 8 / 255, 3  # steps of the attacks and of training: memory does not grow after them
SIZES = {
    "batch": Size(8, 128, 128, "images a training step"),
    "evaluation_batch": Size(4, 32, 512, "images at a time of the attacks"),
    "images": Size(8, 256, 1024, "to attack"),
    "queries": Size(5, 20, 100, "of Square in AutoAttack"),
}


def work_of(part: str, network: str, what: str, chosen: argparse.Namespace, device: torch.device) -> Callable[[], object]:
    """What a child does. part: `nothing`; `train`, by our loop, the plain one or steps with a loss; an attack by library `what`."""
    if part == "nothing":
        return lambda: None
    params = load_params()
    if part == "train":
        from benchmarks import steps, training  # which import what attacks do without

        splits = training.enough(load_images(network, None), SHORT * chosen.batch)
        if what == "plain":
            return training.plain_epoch(params, network, splits, device, chosen.batch, workers=0)
        precision = best_precision(device)
        if what == attacks.OURS:
            return training.our_epoch(params, network, splits, device, precision, chosen.batch)
        return steps.stepper(params, network, LOSSES[what], splits, device=device, precision=precision, batch=chosen.batch)
    model, x = blank_network(network, device, chosen.images)
    task = Task(model.eval(), x, model(x[:1]).argmax(1).expand(len(x)), "linf", EPS, 10, seed=0, batch_size=chosen.evaluation_batch)
    sizes = {"autoattack_steps": SHORT, "queries": chosen.queries, "cw_steps": SHORT}
    precision = best_precision(device)
    subject = attacks.Subject(network, "noise", {}, x, task.y, 10, EPS, 0, precision, sizes)
    libraries = [] if what == attacks.OURS else [what]
    own = attacks.victims(model, x, precision)
    return partial(attacks.runs(params, subject, part, libraries, own)[what], task)


def measure_here(part: str, network: str, what: str, chosen: argparse.Namespace, device: torch.device) -> None:
    """In the child: the work, then a line of JSON with the peak of the GPU's tensors."""
    work_of(part, network, what, chosen, device)()
    print(json.dumps({"cuda": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None}))


def plan(networks: Sequence[str], libraries: Sequence[str]) -> list[tuple[str, str, str]]:
    """Part, network and what, for every child."""
    parts = [("nothing", "", "")]
    for network in networks:
        parts += [("train", network, what) for what in [attacks.OURS, "plain", *LOSSES]]
        parts += [("pgd", network, library) for library in [attacks.OURS, *libraries]]
        parts.append(("autoattack", network, attacks.OURS))
    return parts


def summary(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Target]]:
    targets = []
    for network in rows.loc[rows["network"] != "", "network"].unique():
        group = rows[rows["network"] == network]
        trained = group[group["part"] == "train"].set_index("what")["bytes"] / GB
        targets.append(
            Target(f"training {network}, GB; the limit is the plain loop's", trained[attacks.OURS], most=trained["plain"])
        )
        mine = group[(group["part"] != "train") & (group["what"] == attacks.OURS)]
        if network == "resnet110":
            targets.append(
                Target(f"evaluating {network}, GB, the most of our attacks", mine["bytes"].max() / GB, most=EVALUATION_GB)
            )
    table = rows.assign(GB=(rows["bytes"] / GB).map("{:.2f}".format)).drop(columns="bytes")
    return table, targets


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: %(default)s")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS, metavar=("PART", "NETWORK", "WHAT"))
    return parser


def main() -> None:
    chosen, device = parse(arguments(), SIZES)
    if chosen.child:
        part, network, what = chosen.child
        measure_here(part, network, what, chosen, device)
        return
    known = start(chosen, device)
    options = [item for name in SIZES for item in (f"--{name.replace('_', '-')}", str(getattr(chosen, name)))]
    options += ["--device", device.type, "--threads", str(chosen.threads)]
    rows = []
    for part, network, what in tqdm(plan(chosen.networks, [name for name in LIBRARIES if not lacking(name)]), unit="process"):
        found, peak = child_json("benchmarks.memory", *options, "--child", part, network, what)
        rows.append((part, network, what, found["cuda"] if found["cuda"] is not None else peak))
    table = pd.DataFrame(rows, columns=["part", "network", "what", "bytes"])
    shown, targets = summary(table)
    notes = [
        "On a CPU: the most that the process held at once, with Python and PyTorch (`nothing`: these alone, imported). On a GPU: "
        "the most that its tensors held.",
        "Training by `plain` without worker processes, whose memory would come on top.",
    ]
    print(write(Report("memory", "Peak memory", table, {"": shown}, notes, targets), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
