"""The optimiser beside torch's own."""

import subprocess
import sys

import torch
from conftest import ROOT
from torch import Tensor, nn

from pipeline.training.sgd import SGD


def network() -> nn.Sequential:
    """Convolution, batch norm and a linear layer that the loss leaves alone."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10), nn.Linear(10, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def groups(model: nn.Sequential) -> list[dict[str, object]]:
    return [
        {"params": model[:2].parameters(), "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2, "name": "network"},
        {"params": model[4:].parameters(), "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
    ]


def steps(model: nn.Sequential, optimizer: "SGD | torch.optim.SGD", x: Tensor, count: int) -> None:
    for step in range(count):
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + step)
        optimizer.zero_grad()
        model[:5](x).logsumexp(1).sum().backward()
        optimizer.step()


def test_weights_are_those_of_torch_bit_by_bit_also_when_training_goes_on_from_a_state() -> None:
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = network(), network()
    optimizer, reference = SGD(groups(ours)), torch.optim.SGD(groups(theirs), lr=1.0)
    steps(ours, optimizer, x, 5)
    resumed = SGD(groups(ours))
    resumed.load_state_dict(optimizer.state_dict())
    steps(ours, resumed, x, 5)
    steps(theirs, reference, x, 5)
    steps(theirs, reference, x, 5)
    for one, other, start in zip(ours.parameters(), theirs.parameters(), network().parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, start) == (one.grad is None)
    assert resumed.param_groups[0]["name"] == "network"


def test_a_step_does_without_the_compiler_of_torch() -> None:
    code = (
        "import sys, torch; from pipeline.training.sgd import SGD\n"
        "weight = torch.nn.Parameter(torch.ones(2)); weight.grad = torch.ones(2)\n"
        "optimizer = SGD([{'params': [weight], 'lr': 0.5, 'momentum': 0.9, 'weight_decay': 0.0}])\n"
        "optimizer.step(); optimizer.zero_grad(); print('torch._dynamo' in sys.modules, weight.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False [0.5, 0.5]\n"
