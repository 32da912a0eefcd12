"""This project's AutoAttack beside those of torchattacks and of ART, on the same models and images; docs/autoattack.md says what
each of them runs. In the project's folder, after `make repro`: `python -m benchmarks.autoattack`."""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.attacks.apgd import Norm
from pipeline.choices import AttackChoice
from pipeline.config import load_params
from pipeline.data.batches import to_float
from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import Trial, attacked, predict
from pipeline.evaluation.worst_case import in_turn
from pipeline.files import atomic_path
from pipeline.jobs.learner import load_model
from pipeline.jobs.verdict import autoattack_parts

STEPS, QUERIES, P_INIT = 100, 5000, 0.8  # of the `standard` version of arXiv:2003.01690, for the other libraries
OUT = Path("metrics/benchmarks/autoattack.csv")
OWN = {"ours": "standard", "ours_rapid": "rapid"}  # as params.yaml names them, `autoattack`
CAPITAL, ORDER = {"linf": "Linf", "l2": "L2"}, {"linf": np.inf, "l2": 2}  # what torchattacks and ART call the norms
BEYOND = 1 + 1e-4  # in parts of eps, for the rounding of norms in float32


class Task(NamedTuple):
    """What every library is given. x: (N, C, H, W) in [0, 1], y: (N,)."""

    model: nn.Module
    x: Tensor
    y: Tensor
    norm: Norm
    eps: float
    classes: int
    seed: int


def ours(task: Task, parts: Mapping[str, AttackChoice]) -> Tensor:
    """-> x_adv, as all of these. parts: as params.yaml has them, `autoattack`."""
    plan = autoattack_parts(parts, task.eps, task.norm, classes=task.classes, batch_size=len(task.x))

    def run(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
        return attacked(task.model, x, y, trial, seed=task.seed, bar=tqdm(disable=True))

    return in_turn("autoattack", task.model, task.x, task.y, plan, run)[1]


def torchattacks_standard(task: Task) -> Tensor:
    """The four parts of its AutoAttack, `standard`, but with the paper's 100 steps instead of 10."""
    library = importlib.import_module("torchattacks")
    options = {"norm": CAPITAL[task.norm], "eps": task.eps, "seed": task.seed, "n_restarts": 1}
    parts = [
        library.APGD(task.model, loss="ce", steps=STEPS, **options),
        library.APGDT(task.model, n_classes=task.classes, steps=STEPS, **options),
        library.FAB(task.model, multi_targeted=True, n_classes=task.classes, steps=STEPS, **options),
        library.Square(task.model, n_queries=QUERIES, **options),
    ]
    return library.MultiAttack(parts)(task.x, task.y)  # type: ignore[no-any-return]


def torchattacks_as_it_comes(task: Task) -> Tensor:
    library = importlib.import_module("torchattacks")
    attack = library.AutoAttack(task.model, CAPITAL[task.norm], task.eps, "standard", n_classes=task.classes, seed=task.seed)
    return attack(task.x, task.y)  # type: ignore[no-any-return]


def art_standard(task: Task) -> Tensor:
    """As near to the standard version as ART gets: one restart, a first step of 2 eps, and APGD towards every wrong class too. ART
    has no FAB; DeepFool stays in its place."""
    evasion = importlib.import_module("art.attacks.evasion")
    classifier, norm = _classifier(task), ORDER[task.norm]
    options = {"norm": norm, "eps": task.eps, "batch_size": len(task.x)}
    steps = {"eps_step": 2 * task.eps, "max_iter": STEPS, "nb_random_init": 1}
    parts = [
        evasion.AutoProjectedGradientDescent(classifier, loss_type="cross_entropy", **options, **steps),
        evasion.AutoProjectedGradientDescent(classifier, loss_type="difference_logits_ratio", **options, **steps),
        evasion.DeepFool(classifier, max_iter=STEPS, epsilon=1e-3, nb_grads=task.classes, batch_size=len(task.x)),
        evasion.SquareAttack(classifier, max_iter=QUERIES, p_init=P_INIT, nb_restarts=1, **options),
    ]
    return _art(task, evasion.AutoAttack(classifier, attacks=parts, targeted=True, **options))


def art_as_it_comes(task: Task) -> Tensor:
    evasion = importlib.import_module("art.attacks.evasion")
    return _art(task, evasion.AutoAttack(_classifier(task), norm=ORDER[task.norm], eps=task.eps))


PEERS: dict[str, Callable[[Task], Tensor]] = {
    "torchattacks": torchattacks_standard,
    "torchattacks_default": torchattacks_as_it_comes,
    "art": art_standard,
    "art_default": art_as_it_comes,
}


def _classifier(task: Task) -> Any:
    classification = importlib.import_module("art.estimators.classification")
    return classification.PyTorchClassifier(
        task.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(task.x.shape[1:]),
        nb_classes=task.classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def _art(task: Task, attack: Any) -> Tensor:
    np.random.seed(task.seed)  # noqa: NPY002  # where ART draws from
    for part in attack.attacks:
        part.set_params(verbose=False)
    return torch.from_numpy(attack.generate(task.x.numpy(), task.y.numpy()))


def left(task: Task, x_adv: Tensor) -> int:
    """The images that stand: those that the model gets right, and those whose perturbation is no valid one."""
    delta = (x_adv - task.x).flatten(1)
    size = delta.abs().amax(1) if task.norm == "linf" else delta.norm(dim=1)
    valid = (size <= task.eps * BEYOND) & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)
    return int(((predict(task.model, x_adv, batch_size=len(x_adv)) == task.y) | ~valid).sum())


def compare(task: Task, model: str, attacks: Mapping[str, Callable[[Task], Tensor]]) -> pd.DataFrame:
    """A row per attack: images left, also in %, seconds of processor time (no other program lengthens it), and how many
    images more ours leaves than this one does."""
    clean, rows = left(task, task.x), []
    for name, attack in attacks.items():
        torch.manual_seed(task.seed)
        start = time.process_time()
        x_adv = attack(task)
        seconds = round(time.process_time() - start, 1)
        count = left(task, x_adv)
        rows.append((model, task.norm, task.eps, len(task.x), clean, name, count, 100 * count / len(task.x), seconds))
        print(f"{model} {task.norm} {task.eps:g}: {name} leaves {count} of {len(task.x)}, {seconds} s", file=sys.stderr)
    columns = ["model", "norm", "eps", "images", "clean", "attack", "left", "percent", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(ours_minus_this=int(table["left"][0]) - table["left"])


def markdown(table: pd.DataFrame) -> str:
    """A row per model, norm and eps. A cell: images left, how many more ours leaves, %, seconds."""
    cells = [
        f"{row.left}{'' if row.attack in OWN else f' ({row.ours_minus_this:+d})'}, {row.percent:.1f} %, {row.seconds:.0f} s"
        for row in table.itertuples()
    ]
    wide = table.assign(cell=cells).pivot(index=["model", "norm", "eps", "images", "clean"], columns="attack", values="cell")
    return f"{wide[table['attack'].unique()].reset_index().to_markdown(index=False, disable_numparse=True)}\n"


def installed(peers: Sequence[str]) -> dict[str, Callable[[Task], Tensor]]:
    """Ours, then those of `peers` that can run; a line on stderr names what is missing."""
    needs = {"torchattacks": ["torchattacks"], "art": ["art", "multiprocess"]}
    lacking = {library: [name for name in names if not importlib.util.find_spec(name)] for library, names in needs.items()}
    wanted = {peer: lacking[peer.removesuffix("_default")] for peer in peers}
    for peer, modules in wanted.items():
        if modules:
            print(f"{peer} is left out: {', '.join(modules)} not installed, see docs/autoattack.md", file=sys.stderr)
    versions = load_params().autoattack
    own = {name: partial(ours, parts=versions[version]) for name, version in OWN.items()}
    return own | {peer: PEERS[peer] for peer, modules in wanted.items() if not modules}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoattack", description=__doc__)
    parser.add_argument("--dataset", default="digits", help="of params.yaml, trained by make repro (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=["softmax_fs", "pcl_deep", "hcp_at", "madry"], help="default: %(default)s")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=["torchattacks", "art"], help="beside ours (default: %(default)s)"
    )
    parser.add_argument("--images", type=int, default=200, help="the first so many of the test split (default: %(default)s)")
    parser.add_argument("--linf", nargs="*", type=float, default=[0.1, 0.15], help="eps in l-inf (default: %(default)s)")
    parser.add_argument("--l2", nargs="*", type=float, default=[0.6], help="eps in l2 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the attacks (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for all libraries (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    attacks, tables = installed(chosen.peers), []
    budgets: list[tuple[Norm, float]] = [*(("linf", eps) for eps in chosen.linf), *(("l2", eps) for eps in chosen.l2)]
    torch.set_num_threads(chosen.threads)
    splits = load_splits(f"data/{chosen.dataset}.npz")
    x = to_float(torch.from_numpy(splits.test.images[: chosen.images]))
    y = torch.from_numpy(splits.test.labels[: chosen.images])
    for method in chosen.methods:
        model = load_model(f"models/{chosen.dataset}/{method}/0.pt", x.device)[0].eval()
        for norm, eps in budgets:
            task = Task(model, x, y, norm, eps, len(splits.classes), chosen.seed)
            tables.append(compare(task, method, attacks))
            table = pd.concat(tables, ignore_index=True)
            with atomic_path(OUT) as path:
                table.to_csv(path, index=False)
            with atomic_path(OUT.with_suffix(".md")) as path:
                path.write_text(markdown(table))
    print(markdown(table), end="")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
