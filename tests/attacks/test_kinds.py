"""What an attack can do follows from its signature."""

from functools import partial

import pytest

from pipeline.attacks import ATTACKS
from pipeline.attacks.kinds import stops_early, takes_targets


def test_attacks_that_can_stop_early() -> None:
    assert {name for name, attack in ATTACKS.items() if stops_early(attack)} == {"bim", "mim", "pgd", "fab"}


def test_targeted_attacks() -> None:
    assert {name for name, attack in ATTACKS.items() if takes_targets(attack)} == {"apgd_targeted", "fab"}


@pytest.mark.parametrize("kind", [stops_early, takes_targets])
def test_options_that_are_given_change_nothing(kind: object) -> None:
    assert callable(kind)
    for attack in ATTACKS.values():
        assert kind(partial(attack, batch_size=5)) == kind(attack)
