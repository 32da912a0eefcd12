"""Networks: sizes against closed forms, the published table and torchvision; what depends on what."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import ResNet101_Weights
from torchvision.models.resnet import Bottleneck

from pipeline.models import NETWORKS
from pipeline.models.conv6 import PReLU
from pipeline.models.network import Network

SMALL: dict[str, tuple[int, int, dict[str, Any]]] = {  # channels, image size, options: as small as the network can be
    "small_cnn": (1, 8, {"widths": [4, 6, 8, 10], "branch": 5, "penultimate": 3}),
    "conv6": (1, 28, {"penultimate": 2}),
    "resnet110": (3, 16, {"blocks": 12, "branch": 9, "penultimate": 11}),
    "resnet101": (3, 32, {"weights": "none", "branch": 9, "penultimate": 11}),
    "vgg19": (1, 8, {"width": 4, "poolings": 2, "penultimate": 5}),
}
PUBLISHED = {"blocks": 12, "branch": 512, "penultimate": 1024}


def build(name: str, channels: int, classes: int = 10, **options: Any) -> Network:
    return NETWORKS[name](classes, torch.full((channels,), 0.45), torch.full((channels,), 0.25), **options)


@pytest.fixture(scope="module", params=SMALL)
def network(request: pytest.FixtureRequest) -> Network:
    """In eval mode, its batch norms with the statistics of random images (without, 110 layers leave the range of numbers) and its
    residual branches small, as in a trained network (without, rounding grows from block to block)."""
    torch.manual_seed(0)
    channels, size, options = SMALL[request.param]
    net = build(request.param, channels, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)
    with torch.no_grad():
        net(torch.rand(32, channels, size, size))
    return net.eval()


@pytest.fixture
def x(network: Network) -> Tensor:
    channels, size, _ = next(small for name, small in SMALL.items() if NETWORKS[name] is type(network))
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def conv_bn(kernel: int, inputs: int, outputs: int) -> int:
    """Convolution without bias, then scale and shift of batch norm."""
    return kernel * kernel * inputs * outputs + 2 * outputs


def bottleneck(inputs: int, width: int) -> int:
    return conv_bn(1, inputs, width) + conv_bn(3, width, width) + conv_bn(1, width, 4 * width)


def stage(inputs: int, width: int, blocks: int) -> int:
    shortcut = conv_bn(1, inputs, 4 * width)
    return bottleneck(inputs, width) + shortcut + (blocks - 1) * bottleneck(4 * width, width)


@pytest.mark.parametrize(("blocks", "stated"), [(3, 650_010), (12, 1_484_634), (18, 2_041_050)])
def test_resnet110_has_the_parameters_of_its_table(blocks: int, stated: int) -> None:
    trunk = conv_bn(3, 3, 16) + stage(16, 16, blocks) + stage(64, 32, blocks) + stage(128, 64, blocks)
    without_branch = trunk + linear(256, 1024) + linear(1024, 10)
    net = build("resnet110", 3, **PUBLISHED | {"blocks": blocks})
    assert count(net) == without_branch + linear(128, 512) == stated
    if blocks == 18:
        assert without_branch == 1_975_002
        assert round(without_branch / 1e6, 2) == 1.98  # the released network
    else:
        convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules()) - 3  # shortcuts do not count
        assert convolutions + 1 == {3: 29, 12: 110}[blocks]  # and the classifier


def test_conv6_and_small_cnn_have_the_parameters_of_their_tables() -> None:
    widths = (1, 32, 32, 64, 64, 128, 128)
    pairs = sum(25 * a * b + b + b for a, b in pairwise(widths))  # bias, PReLU's slopes
    assert count(build("conv6", 1, penultimate=64)) == pairs + linear(128, 512) + linear(512, 64) + linear(64, 10) == 894_826
    for channels in (1, 3):
        widths = (channels, 4, 6, 8, 10)
        trunk = sum(conv_bn(3, a, b) for a, b in pairwise(widths))
        net = build("small_cnn", channels, classes=7, widths=[4, 6, 8, 10], branch=5, penultimate=3)
        assert count(net) == trunk + linear(8, 5) + linear(10, 3) + linear(3, 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_prelu_of_conv6_is_that_of_torch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(3, 5, 4, 4), torch.zeros(1, 5, 4, 4)]).to(dtype)  # both take the slope at 0
    slopes, weights = torch.tensor([-0.5, 0.0, 0.25, 0.75, 2.0], dtype=dtype), torch.randn_like(x)
    found = []
    for kind in (PReLU, nn.PReLU):
        module, images = kind(5).to(dtype), x.clone().requires_grad_()
        module.weight.data = slopes.clone()
        (module(images) * weights).sum().backward()
        found.append((module(images), images.grad, module.weight.grad))
    torch.testing.assert_close(found[0], found[1])


def test_vgg19_has_the_convolutions_of_torchvision() -> None:
    def shapes(net: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Conv2d)]

    ours = build("vgg19", 3, width=64, poolings=5, penultimate=512)
    assert shapes(ours) == shapes(torchvision.models.vgg19_bn())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ours.modules()) == 16
    assert count(ours) == sum(9 * a * b + 2 * a for a, b, *_ in shapes(ours)) + linear(512, 512) + linear(512, 10) == 20_297_674


def test_resnet101_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet101()
    torch.manual_seed(0)
    ours = build("resnet101", 3, weights="none", branch=9, penultimate=11)
    extra = linear(1024, 9) + linear(2048, 11) + linear(11, 10)
    assert count(ours) == count(reference) - linear(2048, 1000) + extra
    reference.fc = nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().forward_features(x)[1]["layer4"], reference.eval()((x - 0.45) / 0.25))


def test_resnet101_takes_grey_as_three_equal_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.resnet101().state_dict()
    monkeypatch.setattr(ResNet101_Weights, "get_state_dict", lambda *_, **__: state)
    grey, colour = (build("resnet101", channels, weights="imagenet", branch=2, penultimate=2) for channels in (1, 3))
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features = [net.eval().forward_features(image)[1]["layer1"] for net, image in ((grey, x), (colour, x.expand(2, 3, 32, 32)))]
    torch.testing.assert_close(*features)
    assert torch.equal(colour.get_parameter("layers.layer1.0.weight"), state["conv1.weight"])


def test_imagenet_weights_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    options = {"weights": "imagenet", "branch": 2, "penultimate": 2}
    file = tmp_path / "hub" / "checkpoints" / "resnet101-63fe2227.pth"
    with pytest.raises(ValueError, match=rf"needs {file}.*no route to host.*fetch https://.*weights: none"):
        build("resnet101", 3, **options)
    file.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=f"{file.name}, which could not be downloaded or read"):
        build("resnet101", 3, **options)


@pytest.mark.parametrize("blocks", [12, 18])
def test_resnet110_has_the_shapes_of_pcl_table_1(blocks: int) -> None:
    net = build("resnet110", 3, classes=100, **PUBLISHED | {"blocks": blocks}).eval()
    maps = []
    for layer in [*list(net.get_submodule("layers").children())[:3], net.get_submodule("layers.layer4.0")]:
        layer.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[1:])))
    with torch.no_grad():
        logits, features = net.forward_features(torch.rand(2, 3, 32, 32))
    assert maps == [(16, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert [f.shape[1] for f in features.values()] == [16, 64, 512, 256, 1024]
    assert logits.shape == (2, 100)
    kinds = [(m.kernel_size[0], m.out_channels) for m in net.get_submodule("layers.layer3.5").modules() if isinstance(m, nn.Conv2d)]
    assert kinds == [(1, 32), (3, 32), (1, 128)]


@pytest.mark.parametrize(
    ("name", "options", "image", "sizes", "dims"),
    [  # pooling rounds up, as Caffe does
        ("conv6", {"penultimate": 64}, (1, 28, 28), [14, 7, 4], [32, 64, 128, 512, 64]),
        ("small_cnn", SMALL["small_cnn"][2], (1, 8, 8), [4, 2, 2], [4, 6, 5, 10, 3]),
        ("vgg19", {"width": 16, "poolings": 5, "penultimate": 512}, (3, 32, 32), [16, 8, 4, 2], [16, 32, 64, 128, 512]),
        ("vgg19", {"width": 4, "poolings": 5, "penultimate": 2}, (1, 9, 9), [5, 3, 2, 1], [4, 8, 16, 32, 2]),
        ("vgg19", {"width": 4, "poolings": 2, "penultimate": 2}, (1, 8, 8), [4, 2, 2, 2], [4, 8, 16, 32, 2]),
        ("vgg19", {"width": 4, "poolings": 0, "penultimate": 2}, (1, 8, 8), [8, 8, 8, 8], [4, 8, 16, 32, 2]),
    ],
)
def test_map_sizes_and_widths(
    name: str, options: dict[str, Any], image: tuple[int, int, int], sizes: list[int], dims: list[int]
) -> None:
    """Of conv6 as in pcl table 1."""
    net, x = build(name, image[0], **options), torch.rand(2, *image)
    assert [f.shape[1] for f in net.forward_features(x)[1].values()] == dims
    for layer, size in zip(net.get_submodule("layers").children(), sizes, strict=False):
        x = layer(x)
        assert x.shape[2:] == (size, size)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 28), (3, 32)])
def test_every_network_takes_every_image_size(name: str, channels: int, size: int) -> None:
    net = build(name, channels, classes=7, **SMALL[name][2])
    with torch.no_grad():
        logits, features = net.forward_features(torch.rand(2, channels, size, size))
    assert logits.shape == (2, 7)
    assert tuple(features) == net.LAYERS == ("layer1", "layer2", "layer3", "layer4", "layer5")
    assert {name: tuple(f.shape) for name, f in features.items()} == {name: (2, dim) for name, dim in net.dims.items()}
    assert net.dims["layer5"] == SMALL[name][2]["penultimate"]
    assert net.classes == 7


def test_features_are_means_over_the_image_and_the_last_one_makes_the_logits(network: Network, x: Tensor) -> None:
    """And pixels are normalised inside."""
    with torch.no_grad():
        logits, features = network.forward_features(x)
        inside = (x - 0.45) / 0.25
        for name in ("layer1", "layer2"):
            inside = network.get_submodule(f"layers.{name}")(inside)
            torch.testing.assert_close(features[name], inside.sum((2, 3)) / inside[0, 0].numel())
        torch.testing.assert_close(logits, F.linear(features["layer5"], *network.get_submodule("classifier").parameters()))


def test_logits_do_not_depend_on_the_branches(network: Network, x: Tensor) -> None:
    branches = network.get_submodule("branches")
    calls = []
    hooks = [branch.register_forward_hook(lambda *_: calls.append(1)) for branch in branches.children()]
    with torch.no_grad():
        logits = network(x)
        assert not calls  # attacks do not compute them
        before = network.forward_features(x)
        for parameter in branches.parameters():
            parameter.add_(1.0)
        after = network.forward_features(x)
    assert torch.equal(before[0], logits)
    assert torch.equal(after[0], logits)
    assert len(calls) == 2 * len(hooks)
    changed = {name for name in network.LAYERS if not torch.equal(before[1][name], after[1][name])}
    assert changed == set(dict(branches.named_children()))
    for hook in hooks:
        hook.remove()


def test_a_loss_reaches_its_own_and_earlier_layers_only(network: Network, x: Tensor) -> None:
    names = list(network.LAYERS)
    branches = {f"branches.{name}" for name, _ in network.get_submodule("branches").named_children()}
    for output in [*names, "logits"]:
        logits, features = network.forward_features(x)
        z = features.get(output, logits)
        network.zero_grad(set_to_none=True)
        (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        reached, touched = set(), set()
        for name, parameter in network.named_parameters():
            module = ".".join(name.split(".")[: 1 if name.startswith("classifier") else 2])
            if parameter.grad is not None:
                touched.add(module)
                if parameter.grad.abs().max() > 0:
                    reached.add(module)
        upto = names if output == "logits" else names[: names.index(output) + 1]
        expected = {f"layers.{name}" for name in upto} | (
            {"classifier"} if output == "logits" else branches & {f"branches.{output}"}
        )
        assert reached == touched == expected, output
    network.zero_grad(set_to_none=True)


def test_in_eval_mode_an_image_does_not_see_the_others(network: Network, x: Tensor) -> None:
    network, x = copy.deepcopy(network).double(), x.double()  # 110 layers of float32 round too much to compare
    with torch.no_grad():
        together, features = network.forward_features(x)
        alone = [network.forward_features(image[None]) for image in x]
    torch.testing.assert_close(together, torch.cat([logits for logits, _ in alone]))
    for name in network.LAYERS:
        torch.testing.assert_close(features[name], torch.cat([f[name] for _, f in alone]))
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_bf16_and_channels_last_give_close_logits(network: Network, x: Tensor) -> None:
    network = copy.deepcopy(network)
    with torch.no_grad():
        plain = network(x)
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            bf16 = network(x)
        assert bf16.dtype == torch.bfloat16
        assert (bf16.float() - plain).norm() < 0.1 * plain.norm()  # bf16 has 8 bits: 0.4 % a layer
        assert (network(x) - plain).norm() < 1e-3 * plain.norm()


@pytest.mark.parametrize("name", ["conv6", "resnet110", "vgg19"])
def test_convolutions_have_he_weights(name: str) -> None:
    torch.manual_seed(0)
    channels, _, options = SMALL[name]
    for module in build(name, channels, **options | ({"width": 16} if name == "vgg19" else {})).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            kernel, fan_in = module.kernel_size[0] ** 2, module.in_channels
            variance = 2 / (1 + 0.25**2) / (kernel * fan_in) if name == "conv6" else 2 / (kernel * module.out_channels)
            assert module.weight.var().item() == pytest.approx(variance, rel=0.25)


def test_vgg19_computes_what_torchvision_does() -> None:
    """With its weights; torchvision's dropout and 4096-d layers left out on both sides."""
    torch.manual_seed(0)
    net, reference = build("vgg19", 3, width=64, poolings=5, penultimate=16).eval(), torchvision.models.vgg19_bn().eval().features
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    pairs = zip(*([m for m in model.modules() if isinstance(m, kinds)] for model in (net, reference)), strict=True)
    with torch.no_grad():
        for ours, theirs in pairs:
            weights = theirs.state_dict()
            ours.load_state_dict({name: weights[name] for name in ours.state_dict()})  # theirs has biases besides, all 0
        x = torch.rand(2, 3, 32, 32)
        maps = reference((x - 0.45) / 0.25)  # (2, 512, 1, 1)
        linear = net.layers["layer5"][-1]
        torch.testing.assert_close(net.forward_features(x)[1]["layer5"], linear(maps.mean((2, 3))), rtol=1e-4, atol=1e-5)
