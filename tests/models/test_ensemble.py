"""Ensembles against values worked by hand."""

from math import log

import pytest
import torch
from torch import Tensor

from pipeline.models.ensemble import Ensemble
from pipeline.models.network import Features, Network
from pipeline.models.small_cnn import SmallCNN
from pipeline.models.vgg19 import VGG19

MEAN, STD = torch.tensor([0.3]), torch.tensor([0.4])


def small_cnn(classes: int = 10) -> SmallCNN:
    return SmallCNN(classes, MEAN, STD, widths=[4, 6, 8, 10], branch=5, penultimate=3)


class Given(Network):
    """Logits that were set by hand, whatever the image."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits, self.classes, self.dims = torch.tensor(logits), len(logits[0]), {"layer1": 1}

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        return self.logits, {"layer1": x[:, :1, 0, 0]}


def test_an_ensemble_averages_probabilities() -> None:
    one, two = [[log(3.0), 0.0], [1000.0, 0.0], [1000.0, 0.0]], [[0.0, 0.0], [0.0, 1000.0], [1000.0, 0.0]]
    ensemble = Ensemble([Given(one), Given(two)])
    x = torch.rand(3, 1, 2, 2)
    expected = torch.tensor([[log(0.625), log(0.375)], [log(0.5), log(0.5)], [0.0, -1000.0]])  # (3/4 + 1/2) / 2
    logits, features = ensemble.forward_features(x)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(ensemble(x), expected)
    assert torch.equal(features["members"], torch.tensor([a + b for a, b in zip(one, two, strict=True)]))
    assert torch.equal(features["layer1"], x[:, 0, :1, :1].flatten(1).expand(3, 2))


def test_an_ensemble_has_the_layers_of_its_members_side_by_side(digits: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    members = [small_cnn().eval() for _ in range(3)]
    ensemble, x = Ensemble(members).eval(), digits[0][:4].float()
    logits, features = ensemble.forward_features(x)
    assert tuple(features) == Ensemble.LAYERS == ("members", *Network.LAYERS)
    assert {name: tuple(f.shape) for name, f in features.items()} == {name: (4, dim) for name, dim in ensemble.dims.items()}
    assert (ensemble.dims["members"], ensemble.dims["layer3"], ensemble.classes) == (30, 15, 10)
    torch.testing.assert_close(features["members"][:, 10:20], members[1](x))
    torch.testing.assert_close(features["layer4"][:, 20:], members[2].forward_features(x)[1]["layer4"])
    torch.testing.assert_close(logits.exp(), sum(member(x).softmax(1) for member in members) / 3)
    logits[:, 0].sum().backward()
    assert all(p.grad is not None for member in members for p in member.get_submodule("layers").parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert ensemble(x).dtype == torch.float32


def test_an_ensemble_refuses_members_that_differ() -> None:
    small = small_cnn()
    for others in ([small_cnn(classes=9)], [VGG19(10, MEAN, STD, width=1, poolings=5, penultimate=3)]):
        with pytest.raises(ValueError, match="one architecture"):
            Ensemble([small, *others])
    with pytest.raises(ValueError, match="got none"):
        Ensemble([])
