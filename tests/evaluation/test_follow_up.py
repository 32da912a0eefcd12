"""What is tried next, by the signs there are; and that every attack has an answer for a model without a gradient."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import pytest
import torch
from plants import Around, same
from torch import Generator, Tensor, nn

from pipeline.attacks import ATTACKS
from pipeline.attacks.objective import cross_entropy
from pipeline.attacks.steps import gradient
from pipeline.evaluation import follow_up
from pipeline.evaluation.follow_up import Logarithm, further_attacks, made_on, warnings
from pipeline.evaluation.robustness import Trial, attackable, measure, outcome_rows
from pipeline.evaluation.worst_case import worst_case_in_sequence

BUDGET = {"queries": 20, "draws": 2, "steps": 2}
BLOCKED = {"zero gradient", "flat gradient"}


def rounding(logits: Tensor) -> Tensor:
    return logits.round()


@pytest.mark.parametrize(
    ("warned", "after", "wanted"),
    [
        (set(), rounding, []),
        ({"random forward"}, same, ["eot", "square"]),
        ({"saturated logits"}, same, ["rescaled", "spsa", "square"]),
        (BLOCKED, rounding, ["rescaled", "bpda", "spsa", "square"]),
        ({"flat gradient"}, same, ["spsa", "square"]),
        ({"probabilities", "black box"}, partial(torch.softmax, dim=1), ["log", "spsa", "square"]),
        ({"random forward", *BLOCKED}, rounding, ["eot", "rescaled", "bpda", "spsa", "square"]),
    ],
)
def test_what_is_tried_follows_from_the_signs(
    warned: set[str], after: Callable[[Tensor], Tensor], wanted: list[str], trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    model = Around(trained, same, after)
    found = further_attacks(warned, model, digits[0], **BUDGET)
    assert list(found) == wanted
    in_l2 = further_attacks(warned, model, digits[0], **BUDGET, norm="l2")
    assert list(in_l2) == [name for name in wanted if name != "spsa"]
    x, y = digits[0][:6], digits[1][:6]
    for norm, attacks in (("linf", found), ("l2", in_l2)):
        for attack in attacks.values():
            delta = attack(model, x, y, 0.1, generator=Generator().manual_seed(0)) - x
            assert (delta.abs().amax() if norm == "linf" else delta.flatten(1).norm(dim=1).amax()) <= 0.1 + 1e-6


def test_an_attack_made_on_another_model_asks_that_one_alone(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:8], digits[1][:8]
    attack = partial(ATTACKS["bim"], steps=3, rel_step_size=0.4)
    theirs = attack(trained, x, y, 0.1)
    assert torch.equal(made_on(trained, attack)(nn.Linear(1, 1), x, y, 0.1), theirs)


def test_the_logarithm_of_probabilities_has_the_gradient_of_the_logits(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:8], digits[1][:8]
    view = Logarithm(Around(trained, same, partial(torch.softmax, dim=1)))
    ours, theirs = (gradient(model, x, y, cross_entropy)[0] for model in (view, trained))
    torch.testing.assert_close(ours, theirs)


def test_warnings_are_those_of_the_numbers_and_of_the_outcomes() -> None:
    def rows(attack: str, eps: float, right: int, images: int = 100) -> pd.DataFrame:
        return pd.DataFrame({"image": range(images), "attack": attack, "eps": eps, "correct": [i < right for i in range(images)]})

    honest = [rows("clean", 0.0, 98), rows("fgsm", 0.1, 60), rows("pgd", 0.1, 50), rows("unbounded", 1.0, 0)]
    numbers = {"zero_gradient": 0.0, "random_forward": 0.0}
    assert warnings(pd.concat(honest), numbers, 0.1, ["autoattack/square"]) == []
    assert warnings(pd.concat(honest), {**numbers, "zero_gradient": 40.0}, 0.1, []) == ["zero gradient"]
    at_most = [*honest[:3], rows("unbounded", 1.0, 1), rows("autoattack/square", 0.1, 199, images=200)]  # 1 % and 0.5 %: the limits
    assert warnings(pd.concat(at_most), numbers, 0.1, ["autoattack/square"]) == []
    shown = [*honest, rows("adaptive/sibling", 0.1, 20), rows("autoattack/square", 0.1, 20, images=30)]
    assert warnings(pd.concat(shown), numbers, 0.1, ["autoattack/square"]) == ["black box", "gradient free"]


def test_what_square_breaks_is_a_share_in_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(follow_up, "masking_checks", lambda accuracy, eps, twins, broken, numbers, count: seen.append(broken) or [])
    outcomes = pd.DataFrame({"image": range(4), "attack": "autoattack/square", "eps": 0.1, "correct": [True, True, True, False]})
    assert warnings(outcomes, {}, 0.1, ["autoattack/square"]) == []
    assert seen == [25.0]


OPTIONS = {
    "fgsm": {},
    "bim": {"steps": 2, "rel_step_size": 0.5},
    "mim": {"steps": 2, "rel_step_size": 0.5, "decay": 1.0},
    "pgd": {"steps": 2, "rel_step_size": 0.5},
    "cw": {"confidence": 0.0, "learning_rate": 0.1, "steps": 2, "binary_search_steps": 1},
    "apgd": {"steps": 2, "restarts": 1},
    "apgd_targeted": {"steps": 2, "targets": 2, "restarts": 1},
    "fab": {"steps": 2, "targets": 2, "restarts": 2},
    "square": {"queries": 5, "p_init": 0.8},
    "spsa": {"queries": 4, "steps": 2, "rel_step_size": 0.3, "rel_radius": 0.5},
}
WITHOUT = {
    "detached": lambda z: z.detach(),
    "argsort": lambda z: z.argsort(1).argsort(1).to(z.dtype),
    "argmax": lambda z: nn.functional.one_hot(z.argmax(1), 10).to(z.dtype),
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("kind", WITHOUT)
def test_every_attack_has_an_answer_for_a_model_without_gradient(
    name: str, kind: str, trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:10], digits[1][:10]
    model = Around(trained, same, WITHOUT[kind])
    trial = Trial(name, 0.1, partial(ATTACKS[name], **OPTIONS[name]), 4)
    rows, _ = measure(attackable(model, x), x, y, [trial], seed=0, keep=0)
    assert rows["linf"].notna().all()
    assert len(rows) == 20


@pytest.mark.parametrize(("left", "confirmed"), [(4, False), (5, True)])
def test_a_second_version_runs_where_more_than_chance_is_left(left: int, confirmed: bool) -> None:
    """Chance: 4 of the 12 images have the commonest label."""
    labels, images = torch.arange(12) % 3, torch.zeros(12, 1, 2, 2)
    ran: list[str] = []

    def run(trial: Trial, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ran.append(trial.attack)
        kept = left if trial.attack == "a/one" else len(y) - 1
        return x, torch.where(torch.arange(len(y)) < kept, y, (y + 1) % 3)

    one, two, three = (Trial(name, 0.1, lambda *_: images, 12) for name in ("a/one", "a/more/two", "a/more/three"))
    rows, _ = worst_case_in_sequence("a", images, labels, labels, [one], run, confirm=[two, three])
    assert ran == ["a/one", *(["a/more/two", "a/more/three"] if confirmed else [])]
    whole = rows[rows["attack"] == "a"]
    assert whole["correct"].sum() == (left - 2 if confirmed else left)
    assert whole["image"].tolist() == list(range(12))
    assert outcome_rows(one, images, labels, images, labels)["correct"].all()
