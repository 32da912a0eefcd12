"""What stage verdict runs on a model, for few classes, an ensemble, and a model that is always or never right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from pipeline.attacks.objective import targeted_dlr, targeted_margin
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.robustness import attackable, clean_features
from pipeline.jobs.verdict import _centres, _outcomes, _plan, autoattack_parts
from pipeline.losses.hcp import HCP
from pipeline.models.ensemble import Ensemble
from pipeline.models.network import Network
from pipeline.models.small_cnn import SmallCNN
from pipeline.params.items import AttackItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items
from pipeline.params.schema import load_params
from pipeline.training.criterion import Criterion

PARAMS = load_params(ROOT / "params.yaml", LOOKUPS)
ITEM = all_items(PARAMS)["digits", "attack", "hcp"]
assert isinstance(ITEM, AttackItem)
QUICK = {"steps": 3, "queries": 5, "targets": 9, "restarts": 1}


def small(classes: int, members: int = 1) -> Network:
    torch.manual_seed(0)
    mean = torch.full((1,), 0.5)
    networks: list[Network] = [SmallCNN(classes, mean, mean, widths=[4, 4, 4, 4], branch=4, penultimate=4) for _ in range(members)]
    return (networks[0] if members == 1 else Ensemble(networks)).eval()


def criterion(losses: dict[str, nn.Module]) -> Criterion:
    return Criterion(losses, {}, "hcp", cross_entropy=1.0, input_gradient=0.0, trades=0.0)


def train_set(classes: int) -> ImageSet:
    rng = np.random.default_rng(0)
    return ImageSet(rng.integers(0, 256, (4 * classes, 1, 8, 8), dtype=np.uint8), np.arange(4 * classes) % classes)


@pytest.mark.parametrize(("classes", "members", "prototypes"), [(2, 1, True), (3, 1, False), (10, 1, True), (10, 3, False)])
@pytest.mark.parametrize("right", ["all", "none", "some"])
def test_every_count_of_classes_and_kind_of_model(classes: int, members: int, prototypes: bool, right: str, tmp_path: Path) -> None:
    network = small(classes, members)
    losses = HCP(
        classes,
        4,
        margin=1.0,
        proximity=1.0,
        negative=1.0,
        distance="euclidean",
        reduction="mean",
        centre_init="uniform",
        c=0.0,
        e=0.001,
    )
    own = criterion({"layer5": losses} if prototypes else {})
    parts = {
        name: choice.model_copy(update={key: value for key, value in QUICK.items() if key in choice.options})
        for name, choice in PARAMS.autoattack["rapid"].items()
    }
    verdict = ITEM.verdict.model_copy(update={"eps": 0.02, "l2": 0.1, "autoattack": parts})
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    answer = network(images).argmax(1)
    labels = {"all": answer, "none": (answer + 1) % classes, "some": torch.arange(12) % classes}[right]
    centres = _centres(network, own, train_set(classes), 5)
    plan = _plan(verdict, ITEM.pgd, own, centres, classes=classes, batch_size=ITEM.batch_size)
    assert {trial.attack for trial in plan.adaptive} >= {"adaptive/ce", "adaptive/dlr", "adaptive/features"}
    assert ("adaptive/joint_t" in {trial.attack for trial in plan.adaptive}) == prototypes
    rows, examples = _outcomes(plan, attackable(network, images), images, labels, 0, tmp_path, 3)
    clean = rows[rows.attack == "clean"].correct.to_numpy()
    assert clean.tolist() == (answer == labels).tolist()
    for whole in ("autoattack", "autoattack_l2", "adaptive"):
        worst = rows[rows.attack == whole]
        assert worst.image.tolist() == list(range(12))
        assert not (worst.correct.to_numpy() & ~clean).any()
    assert len(examples["image"]) <= 3


def test_targeted_dlr_needs_four_classes_and_gives_way_to_the_margin_below() -> None:
    of = {n: autoattack_parts(PARAMS.autoattack["standard"], 0.1, "linf", classes=n, batch_size=4)[1].run for n in (3, 4)}
    assert of[3].keywords["objective"] is targeted_margin  # type: ignore[attr-defined]
    assert "objective" not in of[4].keywords  # type: ignore[attr-defined]  # the attack's own, targeted DLR
    y = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="at least 4 classes"):
        targeted_dlr(nn.Linear(1, 3), torch.zeros(1, 1), y, y + 1)


def test_standard_is_what_the_paper_runs() -> None:
    settings = [(part, choice.name, choice.options) for part, choice in PARAMS.autoattack["standard"].items()]
    assert settings == [
        ("apgd_ce", "apgd", {"steps": 100, "restarts": 1}),
        ("apgd_t", "apgd_targeted", {"steps": 100, "targets": 9, "restarts": 1}),
        ("fab_t", "fab", {"steps": 100, "targets": 9, "restarts": 1}),
        ("square", "square", {"queries": 5000, "p_init": 0.8}),
    ]


def test_centres_are_the_losses_own_or_the_means_of_the_training_images() -> None:
    network, train = small(3), train_set(3)
    found = _centres(network, criterion({}), train, 5)
    values = clean_features(network, torch.from_numpy(train.images) / 255, batch_size=12)["layer5"]
    assert list(found) == ["layer5"]
    for label in range(3):
        np.testing.assert_allclose(found["layer5"][label].numpy(), values[train.labels == label].mean(0), rtol=1e-5, atol=1e-6)


def test_a_class_without_training_images_costs_the_attack_on_the_features_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert _centres(small(4), criterion({}), train_set(3), 5) == {}
    assert "no adaptive attack on the features: classes [3] have no training image" in capsys.readouterr().out


def test_an_attack_made_on_other_images_is_not_taken_up(tmp_path: Path) -> None:
    network, own = small(10), criterion({})
    verdict, centres = ITEM.verdict.model_copy(update={"eps": 0.02, "l2": None}), _centres(network, own, train_set(10), 9)
    plan = _plan(verdict, ITEM.pgd, own, centres, classes=10, batch_size=ITEM.batch_size)
    plan = plan._replace(autoattack={"autoattack": plan.autoattack["autoattack"][:1]}, adaptive=plan.adaptive[:1], others=[])

    def outcome(images: Tensor, folder: Path) -> list[float]:
        return _outcomes(plan, attackable(network, images), images, network(images).argmax(1), 0, folder, 0)[0].l2.tolist()

    one, other = torch.rand(2, 12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    outcome(one, tmp_path / "same")
    assert outcome(other, tmp_path / "same") == outcome(other, tmp_path / "fresh")
