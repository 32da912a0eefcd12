"""What stages do with a damaged file, and with the model of another item."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from damage import content_or_error, damaged

from pipeline.data.image_set import ImageSet, Splits, load_splits, save_splits
from pipeline.evaluation.robustness import Trial, attackable, progress
from pipeline.jobs.learner import new_learner, train
from pipeline.jobs.trained import load_model, model_of
from pipeline.jobs.trials import attacked_once
from pipeline.params.items import Recipe
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.runtime.checkpoint import kept_state, load_state, save_state
from pipeline.training.state import Learner

CPU, PARAMS = torch.device("cpu"), load_params(ROOT / "params.yaml", LOOKUPS)


def splits(classes: int = 10) -> Splits:
    rng = np.random.default_rng(0)
    part = ImageSet(rng.integers(0, 256, (44, 1, 8, 8), dtype=np.uint8), np.arange(44) % classes)
    return Splits(part, part, part, [str(name) for name in range(classes)], np.array([0.5]), np.array([0.25]))


def model_file(path: Path, method: str, **changed: object) -> Learner:
    """As stage train writes it, without training."""
    own = recipe(PARAMS, "digits", method)
    made = new_learner(own, splits(), CPU, seed=0)
    used = {"dataset": "digits", "method": method, "seed": 0, "classes": 10, "channels": 1, "key": "0"}
    used["recipe"] = own.model_dump(mode="json")
    save_state(path, {**made.kept(), "params": {**used, **changed}})
    return made


def test_a_model_file_with_any_bit_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model_file(path, "hcp")
    for what, content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pt is damaged") as error:
            load_model(path, CPU)
        assert "\n" not in str(error.value), what


def test_a_model_file_must_be_that_of_the_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_item = partial(model_of, "digits", "hcp", 0, device=CPU)
    path = Path("models/digits/hcp/0.pt")
    model_file(path, "hcp")
    assert of_item(splits=splits())[0].classes == 10
    with pytest.raises(ValueError, match=r"is a model of .*classes 10.*, not of .*classes 11"):
        of_item(splits=splits(11))
    for method, changed in (("vgg", {}), ("hcp", {"seed": 1}), ("hcp", {"dataset": "mnist"}), ("hcp_fs", {})):
        model_file(path, method, **changed)
        with pytest.raises(
            ValueError, match=r"models/digits/hcp/0\.pt is a model of .*, not of dataset digits, method hcp, seed 0"
        ):
            of_item(splits=splits())


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    made = model_file(tmp_path / "a.pt", "hcp")
    state = load_state(tmp_path / "a.pt")
    for part, name in (("network", "classifier.weight"), ("criterion", "losses.layer5.radii")):
        broken = {**state[part], name: state[part][name].clone()}
        broken[name].view(-1)[0] = torch.inf
        save_state(tmp_path / "b.pt", {**state, part: broken})
        with pytest.raises(ValueError, match=rf"b\.pt holds numbers that are not finite, in {name}; delete it"):
            load_model(tmp_path / "b.pt", CPU)
    assert made.network.classes == 10


def trained(folder: Path, epochs: int, kill_after: int | None = None) -> tuple[Learner, list[int]]:
    """Learner, and which epochs were trained now. kill_after: an epoch; the kill comes at the end of the next one."""
    own: Recipe = recipe(PARAMS, "digits", "hcp", init="random", epochs=epochs)
    made, done = new_learner(own, splits(), CPU, seed=0), []

    def on_epoch(row: dict[str, float], rate: float | None) -> None:
        if rate is not None:
            done.append(int(row["epoch"]))
        if kill_after is not None and row["epoch"] > kill_after:
            raise KeyboardInterrupt

    try:
        train(made, own, splits(), precision="fp32", checkpoint=folder / "last.pt", params={"seed": 0}, on_epoch=on_epoch)
    except KeyboardInterrupt:
        assert kill_after is not None
    return made, done


def test_a_damaged_training_state_is_never_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight, _ = trained(tmp_path / "straight", 4)
    trained(tmp_path / "killed", 4, kill_after=3)
    path, before = tmp_path / "killed/last.pt", tmp_path / "killed/last.pt.before"
    kept, earlier = path.read_bytes(), before.read_bytes()
    assert len(load_state(before)["rows"]) == 2
    for what, content in damaged(kept):
        path.write_bytes(content)
        assert kept_state(path) is None, what
    capsys.readouterr()
    for states, again in (((kept, earlier), [4]), ((kept[:-9], earlier), [3, 4]), ((kept[:-9], earlier[9:]), [1, 2, 3, 4])):
        for file, content in zip((path, before), states, strict=True):
            file.write_bytes(content)
        resumed, done = trained(tmp_path / "killed", 4)
        assert done == again
        for name, value in straight.network.state_dict().items():
            assert torch.equal(value, resumed.network.state_dict()[name])
        lines = [line for line in capsys.readouterr().err.splitlines() if "is damaged" in line]
        assert len(lines) == {1: 0, 2: 1, 4: 2}[len(again)]


def test_the_training_state_of_other_params_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, 2, kill_after=1)
    state = load_state(tmp_path / "last.pt")
    save_state(tmp_path / "last.pt", {**state, "params": {"seed": 1}})
    with pytest.raises(ValueError, match=r"last\.pt is from a training run with other params; delete it"):
        trained(tmp_path, 2)


def test_a_damaged_attack_is_made_again(tmp_path: Path) -> None:
    network = new_learner(recipe(PARAMS, "digits", "softmax_fs"), splits(), CPU, seed=0).network
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    runs: list[int] = []

    def attack(model: object, x: torch.Tensor, y: torch.Tensor, eps: float, **_: object) -> torch.Tensor:
        runs.append(len(x))
        return (x + eps).clamp(0, 1)

    def once() -> torch.Tensor:
        with progress(4) as bar:
            return attacked_once(attackable(network, x), x, y, Trial("a/b", 0.1, attack, 4), seed=0, folder=tmp_path, bar=bar)[0]

    first, second = once(), once()
    assert runs == [4]
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    third = once()
    assert runs == [4, 4]
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_data_set_with_a_changed_bit_is_refused_or_the_same(tmp_path: Path) -> None:
    path, good = tmp_path / "a.npz", splits()
    save_splits(path, good)
    refused = 0
    for what, content in damaged(path.read_bytes(), flips=1000):
        path.write_bytes(content)
        found = content_or_error(partial(load_splits, path))
        if isinstance(found, ValueError):
            refused += 1
            assert "\n" not in str(found), what
            assert "cut off, damaged or not made by stage data" in str(found), what
            continue
        assert found.classes == good.classes, what
        assert np.array_equal(found.mean, good.mean), what
        assert np.array_equal(found.std, good.std), what
        for name, part in found.parts().items():
            assert np.array_equal(part.images, good.parts()[name].images), what
            assert np.array_equal(part.labels, good.parts()[name].labels), what
    assert refused > 500


@pytest.mark.parametrize("stage", ["attack digits hcp 0", "transfer digits 0"])
def test_a_stage_refuses_the_model_of_another_in_one_line(stage: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments.split()]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert run("stages.items").returncode == 0
    save_splits(tmp_path / "data/digits.npz", splits())
    for method in ("hcp", "vgg", "vgg_at_fgsm", *PARAMS.run.methods):
        model_file(tmp_path / f"models/digits/{method}/0.pt", "vgg")
    done = run(f"stages.{stage}")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: models/digits/")
    assert "is a model of dataset digits, method vgg" in line
