"""The objectives of AutoAttack against values worked by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from pipeline.attacks.objective import Objective, dlr, margin, targeted_dlr, wrong_classes

LOGITS = torch.tensor([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]])
LABELS, TARGETS = torch.tensor([0, 2, 1]), torch.tensor([3, 1, 0])


def test_objectives_equal_the_values_worked_by_hand() -> None:
    same = nn.Identity()
    values = [objective(same, LOGITS, LABELS)[0] for objective in (dlr, partial(targeted_dlr, target=TARGETS), margin)]
    torch.testing.assert_close(values[0], torch.tensor([-(3 - 2) / (3 - 1), -(2 - 3) / (3 - 1), 0.0]))
    torch.testing.assert_close(values[1], torch.tensor([-(3 - 0) / (3 - (1 + 0) / 2), -(2 - 1) / (3 - (1 + 0) / 2), 0.0]))
    torch.testing.assert_close(values[2], torch.tensor([-1.0, 1.0, 0.0]))
    assert wrong_classes(LOGITS[:2], LABELS[:2]).tolist() == [[2, 1, 3], [0, 1, 3]]


@pytest.mark.parametrize("objective", [dlr, partial(targeted_dlr, target=TARGETS)])
def test_dlr_sees_neither_shift_nor_scale_of_the_logits(objective: Objective) -> None:
    torch.testing.assert_close(objective(nn.Identity(), 1000 * LOGITS - 70, LABELS)[0], objective(nn.Identity(), LOGITS, LABELS)[0])


@pytest.mark.parametrize(("objective", "classes"), [(dlr, 3), (partial(targeted_dlr, target=TARGETS), 4)])
def test_dlr_refuses_too_few_classes(objective: Objective, classes: int) -> None:
    with pytest.raises(ValueError, match=f"needs at least {classes} classes, got {classes - 1}; take cross_entropy or margin"):
        objective(nn.Identity(), LOGITS[:, : classes - 1], LABELS)
