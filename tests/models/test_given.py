"""Classifiers that others made: how they are built, how their weights are read, and what is said where it does not fit."""

import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.models.given.build import build
from pipeline.models.given.network import Given
from pipeline.models.given.pcl_release import PCLRelease
from pipeline.models.given.weights import find_weights, put_weights, read_weights
from pipeline.models.small_cnn import SmallCNN


def net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes)]
    return nn.Sequential(*layers).eval()


def loaded(path: Path, model: nn.Module) -> list[str]:
    weights, *_ = find_weights(read_weights(path))
    return put_weights(model, weights, path)


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best": np.float64(0.9)},
    "data parallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
    "lightning": lambda state: {
        "state_dict": {f"model.net.{name}": value for name, value in state.items()},
        "hparams": {"lr": 0.1},
    },
    "nested": lambda state: {"net": {"state_dict": state}, "optimizer": {"state": {0: {"momentum": torch.ones(3)}}}},
    "unusual name": lambda state: {"classifier_weights": state, "epoch": 3},
    "without counters": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    "other tensors beside": lambda state: {**{f"module.{name}": value for name, value in state.items()}, "mean": torch.zeros(3)},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_under_wrappers_and_prefixes(kind: str, legacy: bool, tmp_path: Path) -> None:
    source, path = net(), tmp_path / "w.pth.tar"
    torch.nn.init.normal_(source[0].weight)
    torch.save(WRAPPED[kind](source.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    model, x = net(), torch.rand(5, 1, 8, 8)
    notes = loaded(path, model)
    assert torch.equal(model(x), source(x))
    assert bool(notes) == (kind in ("data parallel", "compiled", "lightning", "other tensors beside"))


def test_a_wrapper_of_ones_own_may_put_a_prefix_before_the_files_names(tmp_path: Path) -> None:
    source = net()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = nn.Module()
    model.backbone = net()
    nn.init.zeros_(model.backbone[0].weight)
    assert "backbone." in loaded(tmp_path / "w.pt", model)[0]
    assert torch.equal(model.backbone[0].weight, source[0].weight)


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source, path = net(), tmp_path / "w.safetensors"
    safetensors.save_file({name: value.contiguous() for name, value in source.state_dict().items()}, path)
    model = net()
    nn.init.zeros_(model[0].weight)
    loaded(path, model)
    assert torch.equal(model[0].weight, source[0].weight)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cut off, damaged"):
        read_weights(path)


def test_safetensors_without_the_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x" * 100)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match="pip install safetensors"):
        read_weights(tmp_path / "w.safetensors")


class Runs:
    """Pickled, it would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    for name, save in {"new.pt": torch.save, "old.pt": lambda content, path: path.write_bytes(pickle.dumps(content))}.items():
        save({"state_dict": net().state_dict(), "x": Runs(tmp_path / "made")}, tmp_path / name)
        with pytest.raises(ValueError, match=r"Python objects|cut off, damaged"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "made").exists()


def damaged(path: Path) -> dict[str, bytes | None]:
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {"cut off": content[: len(content) // 2], "flipped": bytes(flipped), "text": b"<html>not found</html>", "empty": b""}


@pytest.mark.parametrize("kind", ["cut off", "flipped", "text", "empty"])
def test_a_damaged_file_is_one_line_without_advice_to_run_its_code(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(net().state_dict(), path)
    path.write_bytes(damaged(path)[kind] or b"")
    with pytest.raises(ValueError, match=r"w\.pt.*fetch it again") as error:
        read_weights(path)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


def test_a_whole_model_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"Python objects \(torch\.nn\.modules\.container\.Sequential\).*state_dict\(\)") as error:
        read_weights(tmp_path / "w.pt")
    assert "weights_only" not in str(error.value)


def test_other_weights_beside_are_named() -> None:
    state = net().state_dict()
    averaged = {f"module.{name}": value for name, value in state.items()}
    assert find_weights({"state_dict": state, "state_dict_ema": averaged, "epoch": 3})[1:] == ("state_dict", ["state_dict_ema"])
    assert find_weights({"model": {"net": state, "teacher": averaged}, "ema": averaged})[1:] == ("model.net", ["teacher", "ema"])
    assert find_weights({"state_dict": state, "ema": {"shadow": averaged, "decay": 0.9}})[2] == ["ema"]
    beside = {"optimizer": {"state": {0: {"momentum": torch.ones(4, 1, 3, 3)}}, "lr": 0.1}, "normalizer": {"mean": torch.ones(3)}}
    assert find_weights({"state_dict": state, **beside})[2] == []


def test_torchscript_says_how_it_can_be_taken(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(net()), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"is a TorchScript program: let a function return torch\.jit\.load"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', default=1)\nparser.parse_args()", None),
        ("import sys\nsys.exit('set DATA_ROOT first')", r"ends the program when it is imported \(exit set DATA_ROOT first\)"),
    ],
)
def test_a_file_that_is_a_script_too(text: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "--eps", "0.1"])
    (tmp_path / "script.py").write_text(f"{text}\nfrom torch import nn\nnet = nn.Linear")
    options = {"in_features": 2, "out_features": 3}
    if said is None:
        assert isinstance(build(f"{tmp_path / 'script.py'}:net", options, classes=3, channels=1), nn.Linear)
    else:
        with pytest.raises(ValueError, match=said):
            build(f"{tmp_path / 'script.py'}:net", options, classes=3, channels=1)


def test_a_function_that_reads_the_command_line_gets_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "--eps", "0.1"])
    text = "import argparse\nfrom torch import nn\n\ndef net():\n    parser = argparse.ArgumentParser()\n"
    text += "    parser.add_argument('--width', type=int, default=5)\n    return nn.Linear(2, parser.parse_args().width)\n"
    (tmp_path / "script.py").write_text(text)
    assert build(f"{tmp_path / 'script.py'}:net", {}, classes=3, channels=1).out_features == 5
    assert sys.argv == ["evaluate", "--eps", "0.1"]


def test_a_linked_file_finds_what_is_beside_the_link(tmp_path: Path) -> None:
    """As DVC links files into its cache."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/0a1b").write_text("from torch import nn\nfrom helper_of_link import WIDTH\nnet = nn.Linear(2, WIDTH)")
    (tmp_path / "helper_of_link.py").write_text("WIDTH = 7")
    (tmp_path / "linked.py").symlink_to(tmp_path / "cache/0a1b")
    assert build(f"{tmp_path / 'linked.py'}:net", {}, classes=3, channels=1).out_features == 7


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, name a file of weights: there is none"):
        read_weights(tmp_path)
    (tmp_path / "a.pth.tar").touch()
    with pytest.raises(ValueError, match=r"name a file of weights: a\.pth\.tar"):
        read_weights(tmp_path)
    with pytest.raises(ValueError, match="there is no file"):
        read_weights(tmp_path / "b.pt")


def test_what_does_not_fit_is_listed_by_name() -> None:
    state = net().state_dict()
    other = {("conv.weight" if name == "0.weight" else name): value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"1 missing: 0\.weight; 1 unexpected: conv\.weight"):
        put_weights(net(), other, "w.pt")
    with pytest.raises(ValueError, match=r"2 of another shape: 4\.weight 3x144 in the file, 7x144 in the model"):
        put_weights(net(7), state, "w.pt")
    with pytest.raises(ValueError, match=r"not finite numbers: 4\.bias"):
        put_weights(net(), {**state, "4.bias": torch.tensor([0.0, float("nan"), 0.0])}, "w.pt")
    for content in ({"epoch": 3}, [1, 2], {"a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}):
        with pytest.raises(ValueError, match=r"it has no weights|it holds a list"):
            find_weights(content)


FILE = """
from torch import nn
from beside import width

def small(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))

ready = small(4)

def none():
    return None
"""


def test_a_function_of_a_file_of_a_package_and_a_network_of_ours(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("width = 5")
    (tmp_path / "mine.py").write_text(FILE)
    file = tmp_path / "mine.py"
    given = {"classes": 10, "channels": 3}
    assert build(f"{file}:small", {"classes": 7}, **given)[2].out_features == 7
    assert build(f"{file}:ready", {}, **given)[2].out_features == 4
    assert build("torchvision.models:resnet18", {"num_classes": 6}, **given).fc.out_features == 6
    ours = build("small_cnn", {"widths": [4, 4, 4, 4], "branch": 4, "penultimate": 4}, **given)
    assert isinstance(ours, SmallCNN)
    assert ours(torch.rand(2, 3, 8, 8)).shape == (2, 10)
    for choice, options, message in (
        (f"{file}:smal", {}, "there is no smal, choose from .*small"),
        (f"{file}:small", {"width": 3}, r"small\(width=3\) failed: TypeError.*it takes \(classes=10\)"),
        (f"{file}:none", {}, "returned NoneType, not a torch"),
        (f"{file}:ready", {"classes": 3}, "takes no options"),
        (f"{tmp_path}/no.py:f", {}, "there is no file"),
        ("no_such_package:f", {}, "cannot be imported .ModuleNotFoundError"),
        ("resnet18", {}, r"give path/to/file\.py:function, .*pcl_release"),
        ("small_cnn", {}, "failed: TypeError.*widths"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            build(choice, options, **given)
        assert "\n" not in str(error.value)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=r"cannot be imported .ZeroDivisionError"):
        build(f"{tmp_path / 'broken.py'}:f", {}, **given)


def test_normalisation_and_features_by_hooks_are_what_they_are_by_hand() -> None:
    model, x = net(), torch.rand(5, 1, 8, 8)
    given = Given(deepcopy(model), x, mean=torch.tensor([0.4]), std=torch.tensor([0.3]), layers=["1", "3"])
    logits, features = given.forward_features(x)
    shown = (x - 0.4) / 0.3
    torch.testing.assert_close(logits, model(shown))
    torch.testing.assert_close(given(x), model(shown))
    torch.testing.assert_close(features["1"], model[:2](shown).mean((2, 3)))
    torch.testing.assert_close(features["3"], model[:4](shown))
    assert given.dims == {"1": 4, "3": 144}
    assert given.classes == 3
    assert not any(module._forward_hooks for module in given.modules())  # none stays


def test_a_copy_has_features_of_its_own() -> None:
    x = torch.rand(2, 1, 8, 8)
    given = Given(net(), x, layers=["3"])
    twin = deepcopy(given)
    nn.init.zeros_(twin.model[0].weight)
    before = given.forward_features(x)[1]["3"].clone()
    assert not torch.equal(twin.forward_features(x)[1]["3"], before)
    assert torch.equal(given.forward_features(x)[1]["3"], before)


def test_features_of_a_network_of_ours_and_what_others_call_forward_features() -> None:
    x = torch.rand(2, 1, 8, 8)
    ours = SmallCNN(3, torch.zeros(1), torch.ones(1), widths=[4, 4, 4, 4], branch=5, penultimate=6)
    given = Given(ours, x, layers=["layer4"])
    assert given.own
    assert given.dims == {"layer4": 4}

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Flatten(), nn.Linear(64, 3)

        def forward_features(self, x: Tensor) -> Tensor:
            return self.body(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.forward_features(x))

    assert not Given(Other(), x).own
    assert Given(Other(), x).dims == {}


class Squeezed(nn.Module):
    """Of a batch of one it answers with one dimension less."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3].squeeze()


def test_a_model_that_works_in_place_leaves_the_images_as_they_are() -> None:
    x = torch.rand(3, 1, 8, 8)
    before, model = x.clone(), nn.Sequential(nn.Threshold(0.5, 0.0, inplace=True), net())
    given = Given(model, x, layers=["1.0"])
    given(x)
    given.forward_features(x)
    assert torch.equal(x, before)
    x.requires_grad_()
    torch.autograd.grad(given(x).sum(), x)  # of a leaf, which PyTorch lets nobody change in place


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(3, 4, 3), "the model fails on 2 images of 1x8x8 .RuntimeError"),
        (nn.Conv2d(1, 4, 3), r"with a tensor \(2, 4, 6, 6\), not \(2, classes\)"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(64, 3)), "the model returns a tuple; wrap it"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), r"\(2, 1\), not \(2, classes\)"),
        (Squeezed(), r"answers 1 images with a tensor \(3,\), not \(1, classes\)"),
    ],
)
def test_what_is_no_classifier_of_such_images(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Given(model, torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match="no layer head, choose from 0, 1"):
        Given(net(), torch.rand(2, 1, 8, 8), layers=["head"])


def released(seed: int = 0) -> nn.ModuleDict:
    """The parts of the released PCL network by its names, from torchvision's bottleneck, which has the same ones."""
    from torchvision.models.resnet import Bottleneck

    def stage(channels: int, width: int, stride: int) -> nn.Sequential:
        down = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        return nn.Sequential(Bottleneck(channels, width, stride, down), *(Bottleneck(4 * width, width) for _ in range(17)))

    torch.manual_seed(seed)
    parts = {"conv1": nn.Conv2d(3, 16, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(16)}
    parts |= {"layer1": stage(16, 16, 1), "layer2": stage(64, 32, 2), "layer3": stage(128, 64, 2)}
    return nn.ModuleDict(parts | {"fc": nn.Linear(256, 1024), "fcf": nn.Linear(1024, 10)}).eval()


def test_the_layout_of_the_released_pcl_checkpoint_loads_as_it_is(tmp_path: Path) -> None:
    parts, path = released(), tmp_path / "CIFAR10_PCL.pth.tar"
    state = OrderedDict((f"module.{name}", value) for name, value in parts.state_dict().items())
    optimizer = torch.optim.SGD(parts.parameters(), 0.1, momentum=0.9).state_dict()
    torch.save({"state_dict": state, "optimizer_model": optimizer}, path, _use_new_zipfile_serialization=False)
    model = build("pcl_release", {}, classes=10, channels=3)
    assert loaded(path, model) == ["`module.` left out"]
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_975_002
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = parts["layer2"](parts["layer1"](torch.relu(parts["bn1"](parts["conv1"](x)))))
        z = nn.functional.avg_pool2d(parts["layer3"](maps), 8).flatten(1)  # (B, 256)
        wide = parts["fc"](z)  # (B, 1024)
        logits, features = model.eval().forward_features(x)
    torch.testing.assert_close(features["layer3"], nn.functional.max_pool2d(maps, 16).flatten(1))
    torch.testing.assert_close(features["layer4"], z)
    torch.testing.assert_close(features["layer5"], wide)
    torch.testing.assert_close(logits, parts["fcf"](wide))
    assert isinstance(model, PCLRelease)
