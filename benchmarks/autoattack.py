"""This project's AutoAttack beside its authors', torchattacks' and ART's, on the same models and images over several seeds;
docs/autoattack.md says what each of them runs. In the project's folder, after `make repro`: `python -m benchmarks.autoattack`."""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.measure import Size, timed
from benchmarks.peers import Task, art_classifier, art_images, by_batch, lacking, left
from benchmarks.results import Report, Target, parse, run_main, start, write
from pipeline.attacks.apgd import Norm
from pipeline.data.batches import to_float
from pipeline.data.image_set import Splits, load_splits
from pipeline.evaluation.robustness import Trial, Victim, attackable, attacked, predict
from pipeline.evaluation.worst_case import worst_case_in_sequence
from pipeline.jobs.trained import load_model
from pipeline.jobs.verdict import autoattack_parts
from pipeline.params.choices import AttackChoice
from pipeline.params.resolve import code_of_names
from pipeline.params.schema import Params, load_params
from pipeline.runtime.files import content_key

STEPS, QUERIES, P_INIT = 100, 5000, 0.8  # of the `standard` version of arXiv:2003.01690, for the other libraries
OWN = {"ours": "standard", "ours_inner": "standard", "ours_rapid": "rapid"}  # as params.yaml names them, `autoattack`
CAPITAL, ORDER = {"linf": "Linf", "l2": "L2"}, {"linf": np.inf, "l2": 2}  # what torchattacks and ART call the norms
ROOMS = ("pipeline/attacks/", "pipeline/evaluation/", "pipeline/models/")  # of our code, what a count follows from
IDENTITY = ["dataset", "model", "norm", "eps", "attack", "seed"]  # what a row is about; measured once
COLUMNS = [*IDENTITY, "images", "clean", "left", "seconds", "key"]
SIZES = {"images": Size(20, 200, 200, "the first so many of the test split")}

Attack = Callable[[Task], Tensor]


class Cell(NamedTuple):
    """What is to be measured: a row of the table without what is found, and the task."""

    row: dict[str, Any]
    task: Task


def standard_parts(params: Params, *, steps: int, queries: int) -> dict[str, AttackChoice]:
    """Those of params.yaml, `autoattack.standard`, with so many queries of Square and steps of the others."""
    return {
        name: choice.model_copy(update={"queries": queries} if choice.name == "square" else {"steps": steps})
        for name, choice in params.autoattack["standard"].items()
    }


def ours(task: Task, parts: Mapping[str, AttackChoice], *, victim: Victim | None = None) -> Tensor:
    """-> x_adv, as all of these. parts: as params.yaml has them, `autoattack`. victim: of the task's model, where it is made."""
    plan = autoattack_parts(parts, task.eps, task.norm, classes=task.classes, batch_size=task.batch_size)
    victim = victim or attackable(task.model, task.x)
    prediction = predict(victim.model, task.x, batch_size=task.batch_size)

    def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return attacked(victim, x, y, trial, seed=task.seed, bar=tqdm(disable=True))

    return worst_case_in_sequence("autoattack", task.x, task.y, prediction, plan, run)[1]


def ours_inner(task: Task, parts: Mapping[str, AttackChoice]) -> Tensor:
    """Ours, but Square leaves out the lower and right edge, as the authors' code does and both libraries with it: what is left of
    the difference from them."""
    with patch.object(importlib.import_module("pipeline.attacks.square"), "_window", _inner_window):
        return ours(task, parts)


def _inner_window(x: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """As _window of pipeline/attacks/square.py, one place less each way."""
    batch, _, height, width = x.shape
    top, left = (
        torch.randint(0, max(length - size, 1), (batch, 1, 1), generator=generator, device=x.device) for length in (height, width)
    )
    side = torch.arange(size, device=x.device)
    return ((top + side[:, None]) * width + left + side).flatten(1)


def official_standard(task: Task) -> Tensor:
    """The authors' own code, version standard."""
    library = importlib.import_module("autoattack")
    adversary = library.AutoAttack(
        task.model, CAPITAL[task.norm], task.eps, seed=task.seed, verbose=False, version="standard", device=task.x.device
    )
    x_adv: Tensor = adversary.run_standard_evaluation(task.x, task.y, bs=task.batch_size)
    return x_adv


def torchattacks_standard(task: Task, *, steps: int = STEPS, queries: int = QUERIES) -> Tensor:
    """The four parts of its AutoAttack, `standard`, but with the paper's 100 steps instead of 10."""
    library = importlib.import_module("torchattacks")
    options = {"norm": CAPITAL[task.norm], "eps": task.eps, "seed": task.seed, "n_restarts": 1}
    parts = [
        library.APGD(task.model, loss="ce", steps=steps, **options),
        library.APGDT(task.model, n_classes=task.classes, steps=steps, **options),
        library.FAB(task.model, multi_targeted=True, n_classes=task.classes, steps=steps, **options),
        library.Square(task.model, n_queries=queries, **options),
    ]
    return by_batch(task, library.MultiAttack(parts))


def torchattacks_as_it_comes(task: Task) -> Tensor:
    library = importlib.import_module("torchattacks")
    attack = library.AutoAttack(task.model, CAPITAL[task.norm], task.eps, "standard", n_classes=task.classes, seed=task.seed)
    return by_batch(task, attack)


def art_standard(task: Task, *, steps: int = STEPS, queries: int = QUERIES) -> Tensor:
    """ART's AutoAttack with the paper's parts, one start each, a first step of 2 eps: APGD on cross entropy, then on DLR towards
    every wrong class (before which ART makes it run away from the true one as well). It has no FAB; DeepFool takes its place."""
    cross_entropy, dlr, deepfool, square = _art_parts(task, steps, queries)
    return _art(
        task, _art_suite(task, [cross_entropy]), _art_suite(task, [dlr], targeted=True), _art_suite(task, [deepfool, square])
    )


def art_all(task: Task, *, steps: int = STEPS, queries: int = QUERIES) -> Tensor:
    """The same parts as ART itself combines them when targeted: both APGDs away from the true class and towards every other."""
    return _art(task, _art_suite(task, _art_parts(task, steps, queries), targeted=True))


def _art_parts(task: Task, steps: int, queries: int) -> list[Any]:
    evasion, classifier = importlib.import_module("art.attacks.evasion"), art_classifier(task)
    options = {"norm": ORDER[task.norm], "eps": task.eps, "batch_size": task.batch_size}
    of_apgd = {"eps_step": 2 * task.eps, "max_iter": steps, "nb_random_init": 1}
    return [
        evasion.AutoProjectedGradientDescent(classifier, loss_type="cross_entropy", **options, **of_apgd),
        evasion.AutoProjectedGradientDescent(classifier, loss_type="difference_logits_ratio", **options, **of_apgd),
        evasion.DeepFool(classifier, max_iter=steps, epsilon=1e-3, nb_grads=task.classes, batch_size=task.batch_size),
        evasion.SquareAttack(classifier, max_iter=queries, p_init=P_INIT, nb_restarts=1, **options),
    ]


def _art_suite(task: Task, parts: list[Any], *, targeted: bool = False) -> Any:
    evasion, options = importlib.import_module("art.attacks.evasion"), {"norm": ORDER[task.norm], "eps": task.eps}
    return evasion.AutoAttack(art_classifier(task), attacks=parts, targeted=targeted, batch_size=task.batch_size, **options)


def art_as_it_comes(task: Task) -> Tensor:
    evasion = importlib.import_module("art.attacks.evasion")
    return _art(task, evasion.AutoAttack(art_classifier(task), norm=ORDER[task.norm], eps=task.eps))


def _art(task: Task, *suites: Any) -> Tensor:
    """One after the other: each leaves the images alone that the model gets wrong already, and returns those it cannot break."""
    for suite in suites:
        for part in suite.attacks:
            part.set_params(verbose=False)
        task = task._replace(x=art_images(task, suite))
    return task.x


ALIKE = ["torchattacks", "art"]  # those with the parts of the paper, one start each
LIBRARY = {"official": "autoattack", "torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}
PEERS: dict[str, Attack] = {
    "official": official_standard,
    "torchattacks": torchattacks_standard,
    "torchattacks_default": torchattacks_as_it_comes,
    "art": art_standard,
    "art_all": art_all,
    "art_default": art_as_it_comes,
}


def run(task: Task, attack: Attack) -> tuple[int, float]:
    """Images left, and seconds: on a CPU of processor time, which no other program lengthens."""
    torch.manual_seed(task.seed)
    start = time.process_time()
    x_adv, wall = timed(partial(attack, task), task.x.device)
    return left(task, x_adv), wall if task.x.device.type == "cuda" else time.process_time() - start


def is_done(table: pd.DataFrame, row: Mapping[str, Any]) -> bool:
    """Whether the table has this cell, measured with the same key: model, images, attack and its code are as they were."""
    return bool((table[[*IDENTITY, "key"]] == [row[name] for name in [*IDENTITY, "key"]]).all(axis=1).any())


def with_row(table: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    """The table with this row in place of an older one of its cell."""
    new = pd.DataFrame([row], columns=COLUMNS)
    return pd.concat([table, new], ignore_index=True).drop_duplicates(IDENTITY, keep="last", ignore_index=True)


def keys(
    attacks: Sequence[str], files: Sequence[Path], images: int, parts: Mapping[str, Mapping[str, AttackChoice]]
) -> dict[str, str]:
    """What a count follows from, by attack. Of ours that is our code too, of the others their version."""
    found = {}
    for name in attacks:
        if name in OWN:
            own = {part: choice.model_dump() for part, choice in parts[OWN[name]].items()}
            used = code_of_names("attack", attacks=[choice["name"] for choice in own.values()])
            code = {file: digest for file, digest in used.items() if file.startswith(ROOMS)}
            found[name] = content_key(files, images, own, code)
        else:
            version = metadata.version(LIBRARY[name.partition("_")[0]])
            settings = {"version": version, "steps": STEPS, "queries": QUERIES}
            found[name] = content_key(files, images, name, settings)
    return found


def summary(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Target]]:
    """A line per model, norm and eps. For each attack the images left by seed, their mean and the mean of the seconds; for each
    that is not ours the mean, over the seeds that both have, of how many more ours leaves; in 200 images at most one more or
    fewer is aimed at."""
    lines, differences = [], dict[tuple[str, str], list[float]]()
    peers = [name for name in table["attack"].unique() if name not in OWN]
    for cell, group in table.groupby(["model", "norm", "eps", "images", "clean"], sort=False):
        counts = group.pivot(index="seed", columns="attack", values="left").sort_index()
        seconds = group.groupby("attack")["seconds"].mean()
        line = {name: str(value) for name, value in zip(["model", "norm", "eps", "images", "clean"], cell, strict=True)}
        for name in counts.columns[np.argsort([list(table["attack"].unique()).index(name) for name in counts.columns])]:
            seen = counts[name].dropna().astype(int)
            line[name] = f"{', '.join(map(str, seen))}; mean {seen.mean():.2f}; {seconds[name]:.0f} s"
        for own, name in [*product(["ours"], peers), *product(["ours_inner"], ["official", *ALIKE])]:
            if {name, own} <= set(counts.columns):
                difference = (counts[own] - counts[name]).mean()
                line[f"{own} less {name}"] = f"{difference:+.2f}"
                differences.setdefault((own, name), []).append(difference * 200 / int(group["images"].iloc[0]))
        lines.append(line)
    targets = []
    for own, name in [*product(["ours"], ["official", *ALIKE]), *product(["ours_inner"], ["official", "torchattacks"])]:
        if found := differences.get((own, name)):
            targets.append(Target(f"images in 200 that {own} leaves more than {name}, the most of all means", max(found), most=1))
            targets.append(Target(f"images in 200 that {own} leaves fewer than {name}, the most of all means", -min(found), most=1))
    return pd.DataFrame(lines).fillna(""), targets


def installed(peers: Sequence[str]) -> dict[str, Attack]:
    """Ours, then those of `peers` that can run; a line on stderr names what is missing."""
    wanted = {peer: lacking(peer.partition("_")[0]) for peer in peers}
    for peer, modules in wanted.items():
        if modules:
            print(f"{peer} is left out: {', '.join(modules)} not installed, see docs/autoattack.md", file=sys.stderr)
    versions = load_params().autoattack
    own = {name: partial(ours_inner if name == "ours_inner" else ours, parts=versions[version]) for name, version in OWN.items()}
    return own | {peer: PEERS[peer] for peer, modules in wanted.items() if not modules}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.autoattack",
        description=__doc__,
        epilog="Goes on from the table that is there: what was measured on the same model file, images and code is not run again.",
    )
    parser.add_argument("--dataset", default="digits", help="of params.yaml, trained by make repro (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=["softmax_fs", "pcl_deep", "hcp_at", "madry"], help="default: %(default)s")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=ALIKE, help="beside ours (default: %(default)s)")
    parser.add_argument("--linf", nargs="*", type=float, default=[0.1, 0.15], help="eps in l-inf (default: %(default)s)")
    parser.add_argument("--l2", nargs="*", type=float, default=[0.6], help="eps in l2 (default: %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="of the attacks (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="run everything, whatever the table has")
    return parser


def cells(chosen: argparse.Namespace, splits: Splits, data: Path, attacks: Sequence[str], device: torch.device) -> Iterator[Cell]:
    """Every attack with every seed on every method at every eps. data: the file of the splits."""
    parts = load_params().autoattack
    x = to_float(torch.from_numpy(splits.test.images[: chosen.images]).to(device))
    y = torch.from_numpy(splits.test.labels[: chosen.images]).to(device)
    for method in chosen.methods:
        path = Path("models", chosen.dataset, method, "0.pt")
        model, made_from = load_model(path, device)[0].eval(), keys(attacks, [path, data], len(x), parts)
        for norm in get_args(Norm):
            for eps in getattr(chosen, norm):
                for seed, name in product(chosen.seeds, attacks):
                    task = Task(model, x, y, norm, eps, len(splits.classes), seed, batch_size=len(x))
                    row = {"dataset": chosen.dataset, "model": method, "norm": norm, "eps": eps, "attack": name, "seed": seed}
                    yield Cell(row | {"images": len(x), "key": made_from[name]}, task)


def go_on(
    table: pd.DataFrame, todo: Iterable[Cell], attacks: Mapping[str, Attack], *, again: bool, keep: Callable[[pd.DataFrame], object]
) -> pd.DataFrame:
    """The table with the cells that it lacks, or with `again` all anew; `keep` is given it after each."""
    for row, task in todo:
        if is_done(table, row) and not again:
            continue
        count, seconds = run(task, attacks[row["attack"]])
        row |= {"clean": left(task, task.x), "left": count, "seconds": round(seconds, 1)}
        print("{model} {norm} {eps:g} seed {seed}: {attack} leaves {left} of {images}, {seconds} s".format(**row), file=sys.stderr)
        table = with_row(table, row)
        keep(table)
    return table


def report(table: pd.DataFrame) -> Report:
    shown, targets = summary(table)
    notes = [
        "clean: images that are right without an attack. A cell: images left, by seed; their mean; seconds, the mean.",
        "ours less another: the mean over seeds of how many more ours leaves; below 0 ours is the stronger attack.",
        "ours_inner: Square without the lower and right edge, as both libraries have it; docs/autoattack.md, where ours differs.",
        "art_all: ART's own combination when targeted, with twice as many random starts as the paper's version; no target.",
    ]
    return Report("autoattack", "AutoAttack here and elsewhere", table, {"": shown}, notes, targets)


def main() -> None:
    chosen, device = parse(arguments(), SIZES, threads=1)
    attacks, known, file = installed(chosen.peers), start(chosen, device), chosen.out / "autoattack.csv"
    data = Path("data", f"{chosen.dataset}.npz")
    todo = cells(chosen, load_splits(data), data, list(attacks), device)
    table = pd.read_csv(file, dtype={"key": str}) if file.exists() else pd.DataFrame(columns=COLUMNS)
    table = go_on(table, todo, attacks, again=chosen.again, keep=lambda table: write(report(table), chosen.out, known))
    print(write(report(table), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
