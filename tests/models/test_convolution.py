"""The convolution of the small networks beside PyTorch's, where it takes ways of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.convolution import Convolution
from pipeline.models.folded import Folded
from pipeline.models.small_cnn import SmallCNN

WAYS = [(1, 8, 8), (1, 3, 5), (1, 2, 2), (1, 1, 1), (5, 2, 2), (5, 1, 1), (5, 1, 2), (5, 2, 1), (5, 4, 4), (5, 1, 3)]  # C, H, W


def both(channels: int, *, bias: bool = False) -> tuple[Convolution, nn.Conv2d]:
    """Ours and PyTorch's with the same weights, in double precision."""
    torch.manual_seed(0)
    theirs = nn.Conv2d(channels, 6, 3, padding=1, bias=bias).double()
    ours = Convolution(channels, 6).double()
    ours.weight, ours.bias = nn.Parameter(theirs.weight.detach().clone()), None  # type: ignore[assignment]
    if theirs.bias is not None:
        ours.bias = nn.Parameter(theirs.bias.detach().clone())  # as where batch norm is folded in
    return ours.to(memory_format=torch.channels_last), theirs


def images(channels: int, height: int, width: int) -> Tensor:
    x = torch.rand(4, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", WAYS)
def test_output_and_gradients_are_those_of_conv2d(shape: tuple[int, int, int], bias: bool) -> None:
    x = images(*shape)
    (ours, theirs), weight = both(shape[0], bias=bias), torch.randn(4, 6, *shape[1:], dtype=torch.float64)
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(torch.autograd.grad((y * weight).sum(), [x, *ours.parameters()]), wanted)
    torch.testing.assert_close(ours(x.detach()), expected)  # without a gradient at the pixels


@pytest.mark.parametrize("shape", WAYS)
def test_a_penalty_on_the_gradient_has_the_gradient_of_finite_differences(shape: tuple[int, int, int]) -> None:
    ours, x = both(shape[0])[0], images(*shape)

    def penalty(weight: Tensor) -> Tensor:
        y = torch.func.functional_call(ours, {"weight": weight}, (x,))
        return torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)[0].pow(2).sum()

    assert torch.autograd.gradcheck(penalty, ours.weight)


@pytest.mark.parametrize("shape", WAYS)
def test_in_bf16_it_is_as_near_as_conv2d(shape: tuple[int, int, int]) -> None:
    (ours, theirs), x = (part.float() for part in both(shape[0])), images(*shape).float().detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y.float(), theirs(x), rtol=0.02, atol=0.02)
    assert x.grad is None
    for got, wanted in zip(
        torch.autograd.grad(y.float().sum(), [x, ours.weight]),
        torch.autograd.grad(theirs(x).sum(), [x, theirs.weight]),
        strict=True,
    ):
        assert got.dtype is torch.float32
        torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


def test_weights_are_stored_as_conv2d_stores_them() -> None:
    ours, theirs = both(3)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {"weight": theirs.weight.shape}
    torch.manual_seed(2)
    started = Convolution(3, 6).weight
    torch.manual_seed(2)
    torch.testing.assert_close(started, nn.Conv2d(3, 6, 3, padding=1, bias=False).weight)


def test_held_weights_are_those_of_the_last_hold() -> None:
    ours, x = both(5, bias=True)[0].requires_grad_(False), images(5, 2, 2)
    ours.hold()
    before = ours(x)
    ours.weight.mul_(2)
    assert torch.equal(ours(x), before)
    assert ours.bias is not None
    torch.testing.assert_close(ours(images(5, 1, 2)), F.conv2d(images(5, 1, 2), ours.weight, ours.bias, padding=1))  # another size
    ours.hold()
    torch.testing.assert_close(ours(x), F.conv2d(x, ours.weight, ours.bias, padding=1))


def test_the_twin_of_a_network_follows_its_weights() -> None:
    torch.manual_seed(0)
    options = {"widths": [4, 5, 6, 7], "branch": 5, "penultimate": 3}
    network = SmallCNN(10, torch.zeros(1), torch.ones(1), **options).double().eval()  # type: ignore[arg-type]
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    folded = Folded(network, x)
    assert len(folded.pairs) == 4
    for _ in range(2):
        twin = folded.now()
        torch.testing.assert_close(twin(x), network(x))
        torch.testing.assert_close(twin(x[:2]), network(x[:2]))
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1.3)
