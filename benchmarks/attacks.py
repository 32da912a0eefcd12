"""PGD, BIM, MIM, C&W and AutoAttack through the pipeline's own evaluation, beside foolbox, ART and torchattacks with the same
settings on the same models and images: seconds and images left. Models: an undefended, a prototype-trained and an adversarially
trained one of make repro, and three of each network, trained for this (.ckpt/bench/models). `python -m benchmarks.attacks`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import autoattack
from benchmarks.floor import attack_flops, quick_peak
from benchmarks.machine import Precision, best_precision
from benchmarks.measure import Size, quartiles, rounds, timed
from benchmarks.peers import LIBRARIES, Options, Task, lacking, left
from benchmarks.results import Report, Target, parse, run_main, start, write
from benchmarks.subjects import EPS, METHODS, NETWORKS, load_images, trained_models
from pipeline.attacks import ATTACKS
from pipeline.attacks.kinds import stops_early
from pipeline.data.batches import to_float
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import Trial, Victim, attackable, attacked, predict
from pipeline.jobs.trained import load_model
from pipeline.params.schema import Params, load_params

ATTACK_NAMES = ["pgd", "bim", "mim", "cw", "autoattack"]
OURS, OURS_FP32 = "ours", "ours in fp32"
AS_STRONG = 0.01  # a library is a peer in speed if it leaves at most this share of the images, or one, more than ours
ON_ALL = {"pgd": 1 / 2, "bim": 1 / 2, "mim": 1 / 2, "cw": 1.0, "autoattack": 1 / 3}  # the most of the fastest's seconds, any model
ON_UNDEFENDED = {"pgd": 1 / 4, "bim": 1 / 4, "mim": 1 / 4}
SIZES = {
    "images": Size(4, 128, 1000, "of the test split"),
    "cw_images": Size(4, 16, 256, "for C&W"),
    "autoattack_images": Size(2, 8, 128, "for AutoAttack"),
    "batch": Size(4, 64, 256, "images at a time, with every library"),
    "cw_steps": Size(3, 50, 200, "of C&W"),
    "autoattack_steps": Size(2, 20, 100, "of the parts of AutoAttack; 100 is its standard version"),
    "queries": Size(5, 500, 5000, "of Square; 5000 is AutoAttack's standard version"),
    "seconds": Size(0, 20, 30, "of each attack on each model by all libraries, or longer until --repeats are done"),
    "repeats": Size(1, 1, 3, "of each attack, at least"),
    "train_images": Size(64, 1280, 50000, "that the models are trained on, at most"),
    "train_batch": Size(32, 64, 256, "images a step of it"),
    "epochs": Size(1, 8, 20, "of it, each"),
}
QUICK_DIGITS = 16

Run = Callable[[Task], Tensor]


class Subject(NamedTuple):
    """Some models of one architecture. models: files by the names in METHODS; sizes: how much of what, as SIZES has it; data: what
    the images are."""

    name: str
    data: str
    models: Mapping[str, Path]
    images: Tensor
    labels: Tensor
    classes: int
    eps: float
    threads: int
    precision: Precision
    sizes: Mapping[str, int]


def digits_subject(params: Params, eps: float, chosen: argparse.Namespace, device: torch.device) -> Subject:
    """The models of make repro, with its images, batch size, threads and precision; C&W and AutoAttack in full."""
    splits, evaluation, compute = load_splits("data/digits.npz"), params.datasets["digits"].evaluation, params.compute
    count = QUICK_DIGITS if chosen.quick else len(splits.test.images)
    sizes = {"images": count, "cw_images": evaluation.l2.images, "autoattack_images": count, "batch": evaluation.batch_size}
    sizes |= {
        "cw_steps": params.attacks["cw"].options["steps"],
        "autoattack_steps": autoattack.STEPS,
        "queries": autoattack.QUERIES,
    }
    if chosen.quick:
        sizes |= {name: vars(chosen)[name] for name in ("cw_steps", "autoattack_steps", "queries")}
    models = {name: Path("models/digits", method, "0.pt") for name, method in METHODS.items()}
    images, labels = _test(splits.test.images, splits.test.labels, device)
    how = (compute.threads, chosen.precision or compute.attack_precision, sizes)
    return Subject("small_cnn", "digits", models, images, labels, len(splits.classes), eps, *how)


def network_subject(params: Params, network: str, chosen: argparse.Namespace, device: torch.device) -> Subject:
    """A network of the papers, trained here where it is not yet."""
    splits, source = load_images(network, chosen.data), chosen.data.name if chosen.data else "enlarged-digits"
    eps = EPS[network] if chosen.eps is None else chosen.eps
    precision = chosen.precision or best_precision(device)
    brief = {"images": min(chosen.train_images, len(splits.train.images)), "epochs": chosen.epochs}
    brief["eps"] = eps if chosen.adversary_eps is None else chosen.adversary_eps
    how = {"batch_size": chosen.train_batch, "precision": precision}
    models = trained_models(params, network, splits, device, source=source, **brief, **how)
    images, labels = _test(splits.test.images, splits.test.labels, device)
    about = (images, labels, len(splits.classes), eps, chosen.threads, precision, vars(chosen))
    return Subject(network, source, models, *about)


def plan(params: Params, chosen: argparse.Namespace, device: torch.device) -> Iterator[tuple[Subject, Sequence[str]]]:
    """Every subject, and the attacks that it gets: at a second eps all but C&W, which knows none."""
    for name in chosen.subjects:
        if name != "digits":
            yield network_subject(params, name, chosen, device), chosen.attacks
            continue
        for number, eps in enumerate(chosen.digits_eps):
            if wanted := [name for name in chosen.attacks if number == 0 or name != "cw"]:
                yield digits_subject(params, eps, chosen, device), wanted


def _test(images: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]", device: torch.device) -> tuple[Tensor, Tensor]:
    return to_float(torch.from_numpy(images).to(device)), torch.from_numpy(labels).to(device)


def task_of(subject: Subject, model: Path, attack: str, c: float) -> Task:
    """What `attack` is to do, with seed 0."""
    count = subject.sizes[{"cw": "cw_images", "autoattack": "autoattack_images"}.get(attack, "images")]
    network = load_model(model, subject.images.device)[0].eval()
    eps = c if attack == "cw" else subject.eps
    x, y = subject.images[:count], subject.labels[:count]
    return Task(network, x, y, "linf", eps, subject.classes, seed=0, batch_size=subject.sizes["batch"])


def victims(model: nn.Module, x: Tensor, precision: Precision) -> dict[str, Victim]:
    """For ours, and in fp32 too where `precision` is another: made once for all attacks on a model, as stage attack does it."""
    own: dict[str, Precision] = {OURS: precision} | ({OURS_FP32: "fp32"} if precision != "fp32" else {})
    return {name: attackable(model, x, of_it) for name, of_it in own.items()}


def runs(params: Params, subject: Subject, attack: str, libraries: Sequence[str], own: Mapping[str, Victim]) -> dict[str, Run]:
    """`attack` by ours on every victim, and by those of `libraries` that have it."""
    if attack == "autoattack":
        steps, queries = subject.sizes["autoattack_steps"], subject.sizes["queries"]
        parts = autoattack.standard_parts(params, steps=steps, queries=queries)
        theirs = {"art": autoattack.art_standard, "torchattacks": autoattack.torchattacks_standard}
        found: dict[str, Run] = {name: partial(autoattack.ours, parts=parts, victim=victim) for name, victim in own.items()}
        return found | {name: partial(run, steps=steps, queries=queries) for name, run in theirs.items() if name in libraries}
    options = params.attacks[attack].options | ({"steps": subject.sizes["cw_steps"]} if attack == "cw" else {})
    found = {name: partial(ours, attack=attack, options=options, victim=victim) for name, victim in own.items()}
    return found | {name: partial(LIBRARIES[name], attack=attack, options=options) for name in libraries}


def ours(task: Task, attack: str, options: Options, *, victim: Victim) -> Tensor:
    """As stage attack does it, with early stopping."""
    stop = {"stop": "sample"} if stops_early(ATTACKS[attack]) else {}
    trial = Trial(attack, task.eps, partial(ATTACKS[attack], **options, **stop), task.batch_size)
    return attacked(victim, task.x, task.y, trial, seed=task.seed, bar=tqdm(disable=True))[0]


def measured(task: Task, attack: str, work: Mapping[str, Run], seconds: float, repeats: int) -> pd.DataFrame:
    """A row per repeat and library; in each repeat, which is the seed too, another library is first. The libraries get the model
    as PyTorch makes one, channels first."""
    plain = deepcopy(task.model).to(memory_format=torch.contiguous_format)
    rows, bounded, names, clean = [], attack != "cw", list(work), left(task, task.x)
    for repeat in rounds(seconds, repeats):
        for name in np.roll(names, -repeat).tolist():
            torch.manual_seed(repeat)
            asked = task._replace(seed=repeat, model=task.model if name in (OURS, OURS_FP32) else plain)
            x_adv, took = timed(partial(work[name], asked), task.x.device)
            x_adv = x_adv.detach()
            count = left(task, x_adv, bounded=bounded)
            rows.append((attack, task.eps, len(task.x), clean, repeat, name, took, count, _distance(task, x_adv)))
    columns = ["attack", "eps", "images", "clean", "repeat", "library", "seconds", "left", "l2"]
    return pd.DataFrame(rows, columns=columns)


def _distance(task: Task, x_adv: Tensor) -> float:
    """Mean l2 of the perturbations that broke an image, nan where none did."""
    moved = (x_adv - task.x).flatten(1).norm(dim=1)
    broken = (predict(task.model, x_adv, batch_size=task.batch_size) != task.y) & (moved > 0)
    return float(moved[broken].mean())


def measure_subject(
    params: Params, subject: Subject, wanted: Sequence[str], chosen: argparse.Namespace, libraries: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Of each model and attack, as soon as it is measured."""
    threads = torch.get_num_threads()
    if subject.threads:
        torch.set_num_threads(subject.threads)
    peak = quick_peak(subject.images.device, "fp32")
    for name, path in subject.models.items():
        small = task_of(subject, path, "pgd", chosen.c)
        own = victims(small.model, small.x, subject.precision)
        for library, warm_up in runs(params, subject, "pgd", libraries, own).items():  # what is imported and allocated once
            for _ in range(2 if library in own else 1):  # and on a GPU recorded, when a size of batch comes again
                warm_up(small._replace(x=small.x[: small.batch_size], y=small.y[: small.batch_size]))
        for attack in wanted:
            task = task_of(subject, path, attack, chosen.c)
            rows = measured(task, attack, runs(params, subject, attack, libraries, own), chosen.seconds, chosen.repeats)
            means = rows.groupby("library", sort=False)[["seconds", "left"]].mean()
            said = ", ".join(f"{library} {row.seconds:.2f} s ({row.left:.1f} left)" for library, row in means.iterrows())
            print(f"{subject.name} {name} {attack}: {said}", file=sys.stderr)
            flops = _steps(params, subject, attack) * len(task.x) * attack_flops(task.model, task.x[:1])
            about = {"network": subject.name, "data": subject.data, "model": name}
            yield rows.assign(**about, threads=torch.get_num_threads(), floor=flops / peak)
    torch.set_num_threads(threads)


def without(rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Those rows that are not measured anew in `found`: of other networks, models, attacks or strengths."""
    same = ["network", "model", "attack", "eps"]
    return rows[~rows.set_index(same).index.isin(found.set_index(same).index)] if len(rows) else rows


def _steps(params: Params, subject: Subject, attack: str) -> int:
    """That each image makes at most, each of a forward and a backward; 0 where it depends."""
    if attack == "autoattack":
        return 0
    return subject.sizes["cw_steps"] if attack == "cw" else int(params.attacks[attack].options["steps"])


def summary(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Target]]:
    """A line per network, model, attack and eps: of each library seconds and images left; ours over the fastest that is as strong.
    And per network, attack and eps the targets, for the model on which we compare worst and for the undefended one."""
    lines, compared = [], []
    for (network, model, attack, eps), group in rows.groupby(["network", "model", "attack", "eps"], sort=False):
        first, counts = group.iloc[0], group.groupby("library")["left"].mean()
        seconds = group.pivot(index="repeat", columns="library", values="seconds")
        line = {"network": network, "data": first["data"], "model": model, "attack": attack, "eps or c": f"{eps:g}"}
        line |= {"images": str(first["images"]), "clean": str(first["clean"])}
        line |= {library: _cell(group[group["library"] == library], str(attack)) for library in rows["library"].unique()}
        spare = max(1.0, AS_STRONG * first["images"])
        others = counts.drop([OURS, OURS_FP32], errors="ignore")
        strong = [name for name in others.index if counts[name] <= counts[OURS] + spare]
        if strong:
            fastest = seconds[strong].median().idxmin()
            ratio = quartiles((seconds[OURS] / seconds[fastest]).tolist())
            line["ours over the fastest as strong"] = f"{ratio} of {fastest}"
            compared.append((network, model, attack, eps, ratio.median, counts[OURS] - others.min(), spare))
        line["floor"] = f"{first['floor']:.2f} s" if first["floor"] > 0 else ""
        lines.append(line)
    table = pd.DataFrame(compared, columns=["network", "model", "attack", "eps", "ratio", "more", "spare"])
    targets = []
    for (network, attack, eps), group in table.groupby(["network", "attack", "eps"], sort=False):
        what, undefended = f"{attack} {eps:g} on {network}", group[group["model"] == next(iter(METHODS))]
        targets.append(
            Target(f"{what}: seconds over the fastest as strong, worst model", group["ratio"].max(), most=ON_ALL[str(attack)])
        )
        if attack in ON_UNDEFENDED and len(undefended):
            ratio = undefended["ratio"].max()
            targets.append(Target(f"{what}: the same, undefended model", ratio, most=ON_UNDEFENDED[str(attack)]))
        targets.append(Target(f"{what}: images left more than by the strongest", group["more"].max(), most=group["spare"].max()))
    return pd.DataFrame(lines).fillna(""), targets


def _cell(rows: pd.DataFrame, attack: str) -> str:
    """What a library did: rows of one model and attack."""
    if rows.empty:
        return ""
    distance = f", l2 {rows['l2'].median():.2f}" if attack == "cw" else ""
    count = rows["left"].mean()
    return f"{rows['seconds'].median():.2f} s, {count:.4g} left, {100 * count / rows['images'].iloc[0]:.1f} %{distance}"


def report(rows: pd.DataFrame) -> Report:
    table, targets = summary(rows)
    notes = [
        "A cell: seconds, the median over repeats, and images left, counted by us on the images that came back, the mean over "
        "repeats, each with a seed of its own; for C&W also the mean l2 of the perturbations that broke an image.",
        f"The fastest as strong: of the libraries that leave at most {AS_STRONG:.0%} of the images, or one, more than ours; "
        "ratio per repeat, median and quartiles.",
        "floor: what the FLOPs of all steps for all images take at the peak of a matrix product in fp32 on the same threads; "
        "images that are broken early need not make all of them. None for AutoAttack: its steps depend on which images break when.",
        f"The libraries run in fp32; ours in bf16 where a row has {OURS_FP32} too, else in fp32. All are judged in fp32.",
        "small_cnn: the models of make repro, settings in full, threads and precision as params.yaml has them.",
        "What the last run, whose conditions are below, did not include stands as an earlier one found it.",
    ]
    return Report("attacks", "Attacks beside foolbox, ART and torchattacks", rows, {"": table}, notes, targets)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    subjects = ["digits", *NETWORKS]
    parser.add_argument("--subjects", nargs="+", choices=subjects, default=["digits", "conv6"], help="default: %(default)s")
    parser.add_argument("--attacks", nargs="+", choices=ATTACK_NAMES, default=ATTACK_NAMES, help="default: %(default)s")
    parser.add_argument("--libraries", nargs="*", choices=LIBRARIES, default=list(LIBRARIES), help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of train-*.parquet and test-*.parquet (default: digits, enlarged)")
    parser.add_argument("--eps", type=float, help="on the networks, l-inf (default: 0.1 on conv6, 8/255 on resnet110)")
    parser.add_argument(
        "--adversary-eps", type=float, help="of the networks' adversarial training (default: the one they are attacked at)"
    )
    parser.add_argument(
        "--digits-eps",
        type=float,
        nargs="+",
        default=[0.1, 0.15, 0.3],
        help="on the digits run (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        help="of ours (default: of the digits run as in params.yaml, else bf16 where there is hardware for it)",
    )
    parser.add_argument("--c", type=float, default=1.0, help="constant of C&W (default: %(default)s)")
    return parser


def main() -> None:
    chosen, device = parse(arguments(), SIZES)
    known, params = start(chosen, device), load_params()
    libraries = [name for name in chosen.libraries if not lacking(name)]
    for name in set(chosen.libraries) - set(libraries):
        print(f"{name} is left out: {', '.join(lacking(name))} not installed, `make bench` does it", file=sys.stderr)
    rows = pd.read_csv(file) if (file := chosen.out / "attacks.csv").exists() else pd.DataFrame()
    for subject, wanted in plan(params, chosen, device):
        for found in measure_subject(params, subject, wanted, chosen, libraries):
            rows = pd.concat([without(rows, found), found], ignore_index=True)
            text = write(report(rows), chosen.out, known)
    print(text, end="")


if __name__ == "__main__":
    run_main(main)
