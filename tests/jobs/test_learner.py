"""A model file alone rebuilds what was trained, and the attack that knows the prototypes ascends what it says."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from pipeline.attacks.bim import bim
from pipeline.attacks.objective import joint
from pipeline.data.image_set import ImageSet, Splits
from pipeline.jobs.learner import build_network, new_learner, recipe_adversary, validation
from pipeline.jobs.trained import load_model
from pipeline.params.items import Recipe
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.runtime.checkpoint import load_state, save_state
from pipeline.training.state import Learner
from pipeline.training.twin import OnTwin

CPU, PARAMS = torch.device("cpu"), load_params(ROOT / "params.yaml", LOOKUPS)


def splits(classes: int = 4, channels: int = 1) -> Splits:
    rng = np.random.default_rng(0)
    part = ImageSet(rng.integers(0, 256, (12, channels, 8, 8), dtype=np.uint8), np.arange(12) % classes)
    mean = part.images.mean(axis=(0, 2, 3)) / 255
    return Splits(part, part, part, [str(name) for name in range(classes)], mean, part.images.std(axis=(0, 2, 3)) / 255)


def learner(method: str, seed: int = 0) -> tuple[Recipe, Learner]:
    own = recipe(PARAMS, "digits", method)
    return own, new_learner(own, splits(), CPU, seed)


def model_file(path: Path, method: str) -> Learner:
    """As stage train writes it."""
    own, made = learner(method)
    used = {"classes": 4, "channels": 1, "recipe": own.model_dump(mode="json")}
    save_state(path, {"network": made.network.state_dict(), "criterion": made.criterion.state_dict(), "params": used})
    return made


def test_the_epoch_is_chosen_by_the_validation_split_and_by_no_other() -> None:
    """All that the model answers is right on validation, and wrong on the images of training and test."""
    own, made = learner("softmax_fs")
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8) for _ in range(3)]
    with torch.no_grad():
        answers = [made.network.eval()(torch.from_numpy(part) / 255).argmax(1).numpy() for part in images]
    train, right, test = (ImageSet(x, (y + wrong) % 4) for x, y, wrong in zip(images, answers, (1, 0, 1), strict=True))
    known = splits()
    assert validation(made, own, Splits(train, right, test, known.classes, known.mean, known.std))(False) == {
        "validation_accuracy": 100
    }


@pytest.mark.parametrize("method", ["softmax_fs", "hcp", "adp", "atda", "pcl_auxiliary", "vgg", "hcp_trades"])
def test_a_model_file_alone_rebuilds_network_and_prototypes(method: str, tmp_path: Path) -> None:
    made = model_file(tmp_path / "a.pt", method)
    network, criterion, params = load_model(tmp_path / "a.pt", CPU)
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(network.eval()(x), made.network.eval()(x))
    assert criterion.state_dict().keys() == made.criterion.state_dict().keys()
    assert all(torch.equal(value, made.criterion.state_dict()[name]) for name, value in criterion.state_dict().items())
    assert criterion.terms == made.criterion.terms
    assert params["channels"] == 1


def test_a_model_file_of_other_code_is_refused(tmp_path: Path) -> None:
    model_file(tmp_path / "a.pt", "hcp")
    state = load_state(tmp_path / "a.pt")
    for path, change in (("b.pt", {"name": "small_cnn"}), ("c.pt", {**state["params"]["recipe"]["network"], "penultimate": 7})):
        changed = {**state["params"], "recipe": {**state["params"]["recipe"], "network": change}}
        save_state(tmp_path / path, {**state, "params": changed})
        with pytest.raises(ValueError, match=rf"{path} was made by another version of this code .*`dvc repro` trains it again"):
            load_model(tmp_path / path, CPU)


def test_learners_of_one_seed_are_equal_and_of_two_seeds_differ() -> None:
    one, same, other = learner("hcp")[1], learner("hcp")[1], learner("hcp", seed=1)[1]
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, same.network.state_dict()[name])
    assert not torch.equal(one.criterion.losses["layer5"].centres, other.criterion.losses["layer5"].centres)


def test_members_of_an_ensemble_start_apart() -> None:
    members = learner("adp")[1].network.members
    assert not torch.equal(members[0].state_dict()["classifier.weight"], members[1].state_dict()["classifier.weight"])


def test_the_joint_objective_is_cross_entropy_plus_the_losses_and_moves_the_features_away(tmp_path: Path) -> None:
    made = learner("hcp")[1]
    network, losses = made.network.eval().double(), made.criterion.losses.double()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    value, logits = joint(losses)(network, x, y)
    _, features = network.forward_features(x)
    by_hand = logits.logsumexp(1) - logits[torch.arange(6), y] + losses["layer4"](features["layer4"], y) + losses["layer5"](
        features["layer5"], y
    )  # fmt: skip
    torch.testing.assert_close(value, by_hand)
    attack = partial(bim, network, x, y, 0.1, steps=10, rel_step_size=0.25)
    reached = {name: joint(losses)(network, x_adv, y)[0].sum() for name, x_adv in
               {"joint": attack(objective=joint(losses)), "ce": attack()}.items()}  # fmt: skip
    assert reached["joint"] > reached["ce"] > value.sum()


def test_auxiliary_classifiers_are_trained_at_the_rate_of_the_network() -> None:
    made = learner("pcl_auxiliary")[1]
    heads = {id(parameter) for parameter in made.criterion.heads.parameters()}
    groups = {group["name"]: {id(parameter) for parameter in group["params"]} for group in made.optimizer.param_groups}
    assert len(heads) == 4
    assert heads <= groups["network"]
    trained = set().union(*groups.values())
    assert trained == {id(p) for module in (made.network, made.criterion) for p in module.parameters()}


def test_a_model_that_started_from_imagenet_is_loaded_without_fetching_those_weights(tmp_path: Path) -> None:
    choice = {"name": "resnet101", "weights": "none", "branch": 4, "penultimate": 4}
    network = build_network(choice, 1, 4, torch.tensor([0.5]), torch.tensor([0.2]))
    own = recipe(PARAMS, "digits", "softmax_fs").model_dump(mode="json")
    used = {"classes": 4, "channels": 1, "recipe": {**own, "network": {**choice, "weights": "imagenet"}}}
    save_state(tmp_path / "a.pt", {"network": network.state_dict(), "criterion": {}, "params": used})
    loaded, _, _ = load_model(tmp_path / "a.pt", CPU)  # would need the file from the network
    torch.testing.assert_close(loaded.state_dict()["classifier.weight"], network.state_dict()["classifier.weight"])


@pytest.mark.parametrize(
    ("method", "name", "eps_range", "clean_share", "labels"),
    [
        ("madry", "pgd", (0.15, 0.15), 0.0, "true"),
        ("at_fgsm", "fgsm", (0.05, 0.25), 0.77, "predicted"),
        ("pcl_at_pgd", "pgd", (0.05, 0.25), 0.5, "true"),
        ("hcp_madry", "pgd", (0.15, 0.15), 0.0, "true"),
        ("pcl_trades", "pgd", (0.15, 0.15), 0.5, "soft"),
    ],
)
def test_adversarial_training_is_as_params_say(
    method: str, name: str, eps_range: tuple[float, float], clean_share: float, labels: str
) -> None:
    adversary = recipe_adversary(recipe(PARAMS, "digits", method))
    assert isinstance(adversary, OnTwin)
    assert isinstance(adversary.adversary, partial)
    chosen = dict(adversary.adversary.keywords)
    attack = chosen.pop("attack")
    assert attack.func.__name__ == name
    assert attack.keywords == ({"steps": 10, "rel_step_size": 0.25} if name == "pgd" else {})
    assert chosen == {"eps_range": eps_range, "clean_share": clean_share, "labels": labels}
