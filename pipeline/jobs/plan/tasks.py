"""What a run would take, counted from its items before anything is run: images through the network, by what is done with them.

A loss counts as its network alone: prototypes cost next to nothing on the papers' networks (a third of a step on the digits').
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.attacks import ATTACKS
from pipeline.attacks.kinds import stops_early
from pipeline.data.image_set import load_splits
from pipeline.evaluation import masking
from pipeline.jobs.plan.calibration import Case
from pipeline.losses import LOSSES
from pipeline.params.choices import AttackChoice
from pipeline.params.dataset import Augment
from pipeline.params.items import AttackItem, CostItem, DataItem, PlanesItem, Recipe, TrainItem, TransferItem
from pipeline.params.sizes import known_sizes
from pipeline.params.values import Strict
from pipeline.training.optimizer import reached

Items = Mapping[tuple[str, ...], Strict | dict[str, Any]]

# Of what an attack would do if no image ever broke, the share that it did: without adversary in training, and with one. An attack
# stops at images that are misclassified. Counted by hooks on 9 digits models without an adversary (SM, HCP, PCL, CL, contrastive;
# at most 1 % right at the headline eps of 0.15) and 8 with one (Madry, AT, TRADES, HCP + AT and others; 27 to 44 %), seed 0. Input
# gradient and ADP, which count as the first, take twice as much.
ACTIVE = {
    "linf": (0.80, 0.91),  # BIM, MIM and PGD up to the headline's eps
    "linf_strong": (0.35, 0.49),  # and above it
    "cw": (0.96, 0.94),
    "noise_sample": (0.034, 0.048),
    "noise_batch": (0.063, 0.085),
    "autoattack_first": (0.027, 0.45),
    "autoattack_rest": (0.002, 0.37),
    "autoattack_l2_first": (0.11, 0.60),
    "autoattack_l2_rest": (0.055, 0.50),
    "adaptive": (0.10, 0.48),
    "adaptive_targeted": (0.015, 0.36),
    "unbounded": (0.060, 0.068),
}
INPUT_GRADIENT = 1.5  # training steps more for the gradient of a gradient: 1.4 to 1.7 for small_cnn and conv6
AWP = 1.0  # training steps more

READ, READ_IMAGE = 1.2, 1.5e-4  # seconds for a data set, and for each image (CIFAR-10 from parquet); a download comes to it
TABLES, FIGURES, CARD, REPORT = 5.0, 12.0, 0.6, 3.5  # seconds, on the digits: a data set, a data set, a model's card, all
OUTCOME = 12  # bytes of a row of outcomes.parquet


@dataclass(frozen=True)
class Work:
    """Images: forward, backward and update; gradient at the image in eval mode, within training and in attacks, whose batches
    differ; forward alone."""

    step: float = 0.0
    training_gradient: float = 0.0
    gradient: float = 0.0
    forward: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*map(add, astuple(self), astuple(other)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(times * count for count in astuple(self)))


@dataclass(frozen=True)
class Task:
    """An item, or what one network does of it. seconds: besides `work`. memory: bytes besides the network's. models, features,
    bytes: what is kept of them, networks, images whose features are stored, and all else."""

    stage: str
    item: str
    dataset: str = ""
    method: str = ""
    case: Case | None = None
    work: Work = Work()
    seconds: float = 0.0
    memory: int = 0
    models: int = 0
    features: int = 0
    bytes: int = 0


class Size(NamedTuple):
    """Images of a data set."""

    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    classes: int

    def of(self, images: str | int) -> int:
        """Test images that an item takes."""
        return self.test if isinstance(images, str) else min(images, self.test)

    def pixels(self) -> int:
        return math.prod(self.shape)


def data_size(dataset: str, item: DataItem) -> Size:
    """Sizes of public sets are known; of others data/DATASET.npz tells them. Raises ValueError where it is not there."""
    path, known = Path("data", f"{dataset}.npz"), known_sizes(item.source)
    if known is None:
        if not path.is_file():
            raise ValueError(f"{path} does not exist; the number of images of {dataset} is in it: run `dvc repro data` first")
        splits = load_splits(path)
        channels, height, width = splits.train.images.shape[1:]
        train, validation, test = (len(part.labels) for part in splits.parts().values())
        return Size(train, validation, test, (channels, height, width), len(splits.classes))
    drawn = (known.train, item.sample.train), (known.test, item.sample.test)
    train, test = (every if wanted == "all" else wanted for every, wanted in drawn)
    shape, classes = (known.channels, known.side, known.side), known.classes
    validation = math.ceil(train * item.validation.fraction)
    return Size(train - validation, validation, test, shape, classes)


def attack_work(choice: AttackChoice, classes: int) -> Work:
    """On an image that never breaks, and the prediction for the result. A new attack is counted by its options of these names."""
    option = {"steps": 1, "targets": 1, "restarts": 1, "binary_search_steps": 1, "queries": 0} | choice.options
    tries = min(option["targets"], classes - 1) * option["restarts"] * option["binary_search_steps"]
    gradients = 0 if option["queries"] else tries * (option["steps"] + choice.name.startswith("apgd"))  # APGD looks at its start
    forwards = option["queries"] + (gradients if choice.name == "fab" else 0)  # FAB looks where each step has led
    first = choice.name == "cw" or "restarts" in choice.options  # looks at the image as it is
    return Work(gradient=gradients, forward=forwards + first + 1)


def training_work(recipe: Recipe, size: Size) -> Work:
    """All epochs of one model; none of one from elsewhere, whose attacks count as if its network were the data set's main one."""
    if recipe.given:
        return Work(forward=size.validation + size.test)
    adversary, epochs = recipe.adversary, recipe.epochs
    each, validating = Work(), Work(forward=1)
    copies = 2 if adversary and adversary.clean_share else 1
    if adversary:
        attack = attack_work(adversary.attack, size.classes)
        attacked = Work(training_gradient=attack.gradient, forward=attack.forward - 1)
        each = attacked + Work(forward=float(adversary.labels != "true"))
        validating += (attacked + Work(forward=1)) * (1.0 if recipe.keep == "best" else 1 / epochs)
    steps = 1 + (INPUT_GRADIENT if recipe.input_gradient else 0.0)
    if recipe.awp:
        steps += AWP * sum(reached(recipe.awp.warmup, epoch, epochs) for epoch in range(epochs)) / epochs
    each += Work(step=copies * steps)
    return (each * size.train + validating * size.validation) * epochs * recipe.ensemble


def attacks_work(item: AttackItem, recipe: Recipe, size: Size) -> Work:
    """Every attack of the papers on one model, and the verdict."""
    images, verdict, has_adversary = size.of(item.images), item.verdict, recipe.adversary is not None
    judged = min(images, size.of(verdict.images))

    def active(choice: AttackChoice, suite: str) -> Work:
        work, share = attack_work(choice, size.classes), ACTIVE[suite][has_adversary]
        return work * share + Work(forward=1 - share)  # the last forward is on every image

    def linf(eps: float) -> Work:
        suite = "linf" if eps <= verdict.eps else "linf_strong"
        works = [active(c, suite) if stops_early(ATTACKS[c.name]) else attack_work(c, size.classes) for c in item.attacks.values()]
        return sum(works, Work())

    each = sum(map(linf, [*item.eps, *([item.adaptive_eps] if item.adaptive_eps else [])]), Work(forward=2))
    if item.noise:
        each = sum((active(_choice("mim", steps=item.noise.steps), f"noise_{rule}") for rule in item.noise.stop), each)
    total = each * images
    if item.cw:
        total += active(item.cw, "cw") * len(item.c) * min(item.cw_images, images)

    each = Work(forward=1)
    for norm in ["autoattack", *(["autoattack_l2"] if verdict.l2 else [])]:
        first, *others = verdict.autoattack.values()
        each += active(first, f"{norm}_first")
        each += sum((attack_work(other, size.classes) for other in others), Work()) * ACTIVE[f"{norm}_rest"][has_adversary]
    knowing = verdict.adaptive.model_dump()
    climbs_loss = recipe.loss is not None and bool(LOSSES[recipe.loss.name].by_image)  # type: ignore[attr-defined]
    each += active(_choice("apgd", steps=knowing["steps"], restarts=knowing["restarts"]), "adaptive") * (3 + climbs_loss)
    each += active(_choice("apgd_targeted", **knowing), "adaptive_targeted") * climbs_loss
    each += Work(gradient=sum(verdict.steps), forward=len(verdict.steps))
    each += active(_choice("pgd", steps=max(verdict.steps)), "unbounded")
    each += active(_choice("pgd", steps=masking.STEPS), "linf") * 2
    each += Work(gradient=2, forward=masking.DIRECTIONS + 4)  # of the other signs of masked gradients
    confirming = sum((attack_work(part, size.classes) for part in verdict.confirm.values()), Work())
    each += confirming * ACTIVE["autoattack_rest"][has_adversary]
    each += attack_work(_choice("mim", steps=max(verdict.steps)), size.classes)  # on the undefended model
    if "centres" in recipe.prototypes:  # by the nearest prototype, and by membership where there are radii
        each += _by_prototypes(knowing, size, has_adversary, "radii" in recipe.prototypes)
    centres = Work(forward=0 if "centres" in recipe.prototypes else size.train)
    return (total + each * judged + centres) * recipe.ensemble


def _by_prototypes(knowing: Mapping[str, int], size: Size, has_adversary: bool, radii: bool) -> Work:
    """Of one image: the attacks on the other readings of a model, one after the other on what is not broken yet."""
    climb = attack_work(_choice("apgd", steps=knowing["steps"], restarts=knowing["restarts"]), size.classes)
    aimed = attack_work(_choice("apgd_targeted", **knowing), size.classes)
    rest = ACTIVE["adaptive_targeted"][has_adversary]
    nearest = Work(forward=1) + climb * ACTIVE["adaptive"][has_adversary] + (climb * 2 + aimed) * rest
    membership = Work(forward=1) + climb * 1.5 + aimed * rest  # by the first attack it rejects most, which breaks nothing
    return nearest + (membership if radii else Work())


def attacks_bytes(item: AttackItem, size: Size) -> int:
    """Adversarial images that are kept and outcomes."""
    images, verdict = size.of(item.images), item.verdict
    trials = len(item.attacks) * (len(item.eps) + bool(item.adaptive_eps)) + (len(item.noise.stop) if item.noise else 0) + 1
    cw_images = min(item.cw_images, images)
    judged = min(images, size.of(verdict.images)) * ((1 + bool(verdict.l2)) * 2 + 5 + len(verdict.steps) + 2)
    kept = {"all": images, "none": 0}.get(str(item.keep_images), item.keep_images)
    pictures = min(int(kept), images) * trials + min(int(kept), cw_images) * len(item.c) + 2 * verdict.examples
    return pictures * size.pixels() * 4 + (images * trials + cw_images * len(item.c) + judged) * OUTCOME


def tasks(items: Items) -> Iterator[Task]:
    """All of the run, in the order of dvc.yaml. Raises ValueError for a data set whose size nobody knows yet."""
    run: Any = items["report",]
    sizes = {key[0]: data_size(key[0], item) for key, item in items.items() if isinstance(item, DataItem)}
    yield Task("items", "items")
    for dataset, size in sizes.items():
        count = size.train + size.validation + size.test
        yield Task("data", f"data@{dataset}", dataset, seconds=READ + READ_IMAGE * count, bytes=count * (size.pixels() + 8))
        yield from _tasks_of(dataset, size, items, run)
    cards = CARD * len(sizes) * len(run["methods"])
    for script, seconds in {
        "tables": TABLES * len(sizes),
        "figures": FIGURES * len(sizes),
        "cards": cards,
        "report": REPORT,
    }.items():
        yield Task(script, script, seconds=seconds)


def _tasks_of(dataset: str, size: Size, items: Items, run: Mapping[str, Any]) -> Iterator[Task]:
    recipes = {key[2]: item.recipe for key, item in items.items() if isinstance(item, TrainItem) and key[0] == dataset}
    own: dict[str, Any] = {
        "dataset": dataset,
        "memory": (size.train + size.validation + 13 * size.test) * size.pixels(),
    }  # as floats

    def case(method: str) -> Case:
        item: Any = items[dataset, "attack", next(iter(run["methods"]))]
        batch = min(item.batch_size, size.of(item.images))
        return _case(recipes["softmax"], recipes[method], size, batch)

    for method, recipe in recipes.items():
        stage = {"softmax": "pretrain", **dict.fromkeys(run["sources"], "sources")}.get(method, "finetune")
        task = Task(stage, "", method=method, case=case(method), work=training_work(recipe, size), models=recipe.ensemble, **own)
        yield from _by_seed(task, run["seeds"], method)
    for method in run["methods"]:
        attack = items[dataset, "attack", method]
        assert isinstance(attack, AttackItem)
        work, kept = attacks_work(attack, recipes[method], size), attacks_bytes(attack, size)
        task = Task("attack", "", method=method, case=case(method), work=work, features=size.of(attack.images), bytes=kept, **own)
        yield from _by_seed(task, run["seeds"], method)
    transfer, planes, cost = (items[dataset, name] for name in ("transfer", "planes", "cost"))
    assert isinstance(transfer, TransferItem)
    assert isinstance(planes, PlanesItem)
    assert isinstance(cost, CostItem)
    images, cw_images = size.of(transfer.images), min(transfer.cw_images, size.of(transfer.images))
    made = sum((attack_work(choice, size.classes) for choice in transfer.attacks.values()), Work()) * images
    made += attack_work(transfer.cw, size.classes) * cw_images
    shown = Work(forward=(images * len(transfer.attacks) + cw_images) * len(transfer.sources))
    for method in transfer.targets:
        work = (made * (method in transfer.sources) + shown) * recipes[method].ensemble
        yield from _by_seed(Task("transfer", "", method=method, case=case(method), work=work, **own), run["seeds"])
    for name, method_recipes in {"planes": planes.recipes, "cost": cost.recipes}.items():
        if not method_recipes:
            yield Task(name, f"{name}@{dataset}", dataset)  # DVC runs it all the same
    for method, recipe in planes.recipes.items():
        seen = attack_work(planes.pgd, size.classes) + Work(forward=2 * (len(planes.epochs) + 2))
        work = training_work(recipe, size) + seen * size.of(planes.images)
        yield Task("planes", f"planes@{dataset}", method=method, case=case(method), work=work, **own)
    for method, recipe in cost.recipes.items():
        epoch = training_work(recipe.model_copy(update={"epochs": 1}), size._replace(validation=0))
        yield Task("cost", f"cost@{dataset}", method=method, case=case(method), work=epoch * (cost.repeats + 1), **own)


def _by_seed(task: Task, seeds: Sequence[int], *method: str) -> Iterator[Task]:
    for seed in seeds:
        yield replace(task, item=f"{task.stage}@{'-'.join([task.dataset, *method, str(seed)])}")


def _case(plain: Recipe, recipe: Recipe, size: Size, batch: int) -> Case:
    """plain: of the softmax model, which has cross entropy alone."""
    network = recipe.network.model_dump()
    network |= {"weights": "none"} if "weights" in network else {}  # nothing is downloaded
    augment = Augment(pad=plain.augment.pad, flip=False)  # flips cost nothing, so sets with and without are one case
    own = plain.model_dump() | {"network": network, "augment": augment.model_dump(), "epochs": 1}
    return Case(json.dumps(own | {"batch_size": min(plain.batch_size, size.train)}), size.shape, size.classes, batch)


def _choice(name: str, **options: int) -> AttackChoice:
    return AttackChoice.model_validate({"name": name, **options})
