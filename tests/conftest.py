"""Fixtures that several test files share, and --slow."""

import compileall
import copy
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of `make test`: a make that a test starts would take itself for a part of it
    os.environ.pop(name, None)
torch.set_num_threads(1)  # two on small tensors wait for each other as soon as anything else runs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    """Compiles the code before a test runs stages: to DVC a folder outside its repository has changed when __pycache__ comes in."""
    if not hasattr(config, "workerinput"):  # once, not in each of xdist's workers
        for folder in ("pipeline", "stages", "benchmarks"):
            compileall.compile_dir(ROOT / folder, quiet=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """128 digits, float64 (128, 1, 8, 8) in [0, 1], and their labels."""
    bunch = load_digits()
    return torch.from_numpy(bunch.images[:128, None] / 16.0), torch.from_numpy(bunch.target[:128].astype(np.int64))


@pytest.fixture(scope="session")
def trained_once(digits: tuple[Tensor, Tensor]) -> nn.Module:
    """A small batch-norm conv net, float64 (so that two libraries round alike), trained until it is right on most of `digits`."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 10),
    ).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(digits[0]), digits[1]).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@pytest.fixture
def trained(trained_once: nn.Module) -> nn.Module:
    """A copy for each test: other libraries leave gradients behind."""
    return copy.deepcopy(trained_once)


def seeded_resnet() -> nn.Module:
    """ResNet-110 for 32x32 colour images, float64, with batch norms that are not at rest."""
    from pipeline.models.resnet110 import ResNet110

    torch.manual_seed(0)
    model = ResNet110(10, torch.full((3,), 0.4), torch.full((3,), 0.2), blocks=12, branch=8, penultimate=16).double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.running_var, part.bias.data, part.running_mean):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def check_untouched(attack: Callable[[nn.Module, Tensor, Tensor], Tensor], model: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """That an attack leaves the model (modes, weights, gradients) and what it is given as they were."""
    x, y = digits[0].clone(), digits[1].clone()
    model.train()
    model[-1].eval()  # a part with a mode of its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    attack(model, x, y)
    assert [module.training for module in model.modules()] == modes
    model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, digits[0])
    assert torch.equal(y, digits[1])
    assert not x.requires_grad
