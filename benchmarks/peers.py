"""The attacks of foolbox, ART and torchattacks on what ours are given, set to the same strength; and the count of what is left, one
for all of them. docs/benchmarks.md says what could not be set alike."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.attacks.apgd import Norm
from pipeline.evaluation.robustness import predict

BEYOND = 1 + 1e-4  # in parts of eps, for the rounding of norms in float32
NEEDS = {  # modules by library
    "foolbox": ["foolbox"],
    "art": ["art", "multiprocess"],
    "torchattacks": ["torchattacks"],
    "official": ["autoattack"],
}

Options = Mapping[str, Any]
"""Of an attack, as params.yaml has them."""


class Task(NamedTuple):
    """What every library is given. x: (N, C, H, W) in [0, 1], y: (N,); batch_size: how many of them at once; eps: for C&W, which
    has no bound, the constant c."""

    model: nn.Module
    x: Tensor
    y: Tensor
    norm: Norm
    eps: float
    classes: int
    seed: int
    batch_size: int


def lacking(library: str) -> list[str]:
    """Modules that it needs and that are not installed."""
    return [name for name in NEEDS[library] if not importlib.util.find_spec(name)]


def left(task: Task, x_adv: Tensor, *, bounded: bool = True) -> int:
    """The images that stand: those that the model gets right, and those whose perturbation is no valid one."""
    delta = (x_adv - task.x).flatten(1)
    size = delta.abs().amax(1) if task.norm == "linf" else delta.norm(dim=1)
    inside = size <= task.eps * BEYOND if bounded else size.isfinite()
    valid = inside & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)
    return int(((predict(task.model, x_adv, batch_size=task.batch_size) == task.y) | ~valid).sum())


def by_batch(task: Task, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """attack(x, y) on one batch after the other, for libraries that leave this to their user."""
    return torch.cat([attack(x, y) for x, y in zip(task.x.split(task.batch_size), task.y.split(task.batch_size), strict=True)])


def foolbox(task: Task, attack: str, options: Options) -> Tensor:
    """Its own early stop of C&W, of the whole batch at the first tenth of the steps without progress, is left on. Images for which
    C&W finds nothing come back black, and are put back as they were."""
    attacks = importlib.import_module("foolbox").attacks
    model = importlib.import_module("foolbox").PyTorchModel(task.model, bounds=(0, 1), device=task.x.device)
    if attack == "cw":
        run = attacks.L2CarliniWagnerAttack(
            binary_search_steps=options["binary_search_steps"],
            steps=options["steps"],
            stepsize=options["learning_rate"],
            confidence=options["confidence"],
            initial_const=task.eps,
        ).run
        x_adv = by_batch(task, lambda x, y: run(model, x, y))
        return torch.where(x_adv.flatten(1).any(1)[:, None, None, None], x_adv, task.x)
    steps = {"rel_stepsize": options["rel_step_size"], "steps": options["steps"]}
    run = {
        "pgd": lambda: attacks.LinfPGD(random_start=True, **steps),
        "bim": lambda: attacks.LinfBasicIterativeAttack(random_start=False, **steps),
        "mim": lambda: _foolbox_mim()(momentum=options["decay"], random_start=False, **steps),
    }[attack]().run
    return by_batch(task, lambda x, y: run(model, x, y, epsilon=task.eps))


@cache
def _foolbox_mim() -> Any:
    """Foolbox's own sums up signs of gradients where the method (and every other library) sums up gradients over their l1 norm;
    with momentum it is another attack."""
    base = importlib.import_module("foolbox.attacks.gradient_descent_base")

    def normalize(self: Any, gradients: Any, **_: Any) -> Any:
        return base.normalize_lp_norms(gradients, p=1)

    parent = importlib.import_module("foolbox").attacks.LinfMomentumIterativeFastGradientMethod
    return type("MomentumMethod", (parent,), {"normalize": normalize})


def art_classifier(task: Task) -> Any:
    classification = importlib.import_module("art.estimators.classification")
    return classification.PyTorchClassifier(
        task.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(task.x.shape[1:]),
        nb_classes=task.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if task.x.device.type == "cuda" else "cpu",
    )


def art_images(task: Task, attack: Any) -> Tensor:
    """What an ART attack makes of the task's images."""
    np.random.seed(task.seed)  # noqa: NPY002  # where ART draws from
    x_adv = attack.generate(task.x.cpu().numpy(), task.y.cpu().numpy())
    return torch.from_numpy(x_adv).to(task.x.device)


def art(task: Task, attack: str, options: Options) -> Tensor:
    evasion, classifier = importlib.import_module("art.attacks.evasion"), art_classifier(task)
    shared = {"batch_size": task.batch_size, "verbose": False}
    if attack == "cw":
        return art_images(
            task,
            evasion.CarliniL2Method(
                classifier,
                confidence=options["confidence"],
                learning_rate=options["learning_rate"],
                binary_search_steps=options["binary_search_steps"],
                max_iter=options["steps"],
                initial_const=task.eps,
                **shared,
            ),
        )
    steps = {"eps": task.eps, "eps_step": options["rel_step_size"] * task.eps, "max_iter": options["steps"], **shared}
    built = {
        "pgd": lambda: evasion.ProjectedGradientDescentPyTorch(classifier, num_random_init=1, **steps),
        "bim": lambda: evasion.BasicIterativeMethod(classifier, **steps),
        "mim": lambda: evasion.MomentumIterativeMethod(classifier, decay=options["decay"], **steps),
    }[attack]()
    return art_images(task, built)


def torchattacks(task: Task, attack: str, options: Options) -> Tensor:
    """It has no binary search in C&W, so c is as given with it."""
    library = importlib.import_module("torchattacks")
    if attack == "cw":
        settings = {"c": task.eps, "kappa": options["confidence"], "steps": options["steps"], "lr": options["learning_rate"]}
        return by_batch(task, library.CW(task.model, **settings))
    steps = {"eps": task.eps, "alpha": options["rel_step_size"] * task.eps, "steps": options["steps"]}
    built = {
        "pgd": lambda: library.PGD(task.model, random_start=True, **steps),
        "bim": lambda: library.BIM(task.model, **steps),
        "mim": lambda: library.MIFGSM(task.model, decay=options["decay"], **steps),
    }[attack]()
    return by_batch(task, built)


LIBRARIES: dict[str, Callable[..., Tensor]] = {"foolbox": foolbox, "art": art, "torchattacks": torchattacks}
