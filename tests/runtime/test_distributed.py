"""Two ranks of torchrun against one process. Run by torchrun this file is what both ranks do."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pipeline.tracking.run
import stages.attack
import stages.data
import stages.items
import stages.train
from benchmarks.faults.small import small_params
from pipeline.data.image_set import ImageSet, Splits
from pipeline.jobs.learner import new_learner, recipe_adversary
from pipeline.params.choices import NetworkChoice
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import recipe
from pipeline.params.schema import load_params
from pipeline.runtime.distributed import (
    check_same,
    gather_rows,
    map_over_ranks,
    own_part,
    part_sizes,
    process_group,
    rank,
    sum_over_ranks,
    world_size,
)
from pipeline.training.loop import fit, run_epoch
from pipeline.training.state import Learner
from pipeline.training.synced_norm import with_synced_norms

CPU, BIN = torch.device("cpu"), Path(sys.executable).parent
BAR = SimpleNamespace(desc="epoch 1", update=lambda count: None, set_postfix_str=lambda text, refresh: None)
METHODS = [
    *["softmax_fs", "hcp", "pcl_auxiliary", "center", "contrastive", "triplet", "adp", "input_gradient"],
    *["madry", "at_fgsm", "trades", "hcp_awp", "ema", "atda"],
]
Found = dict[str, Tensor]


class Killed(BaseException):
    """Stands for the signal that ends a process in the middle of an epoch."""


# What each rank does and, in the tests below, one process.


def trained(method: str) -> Found:
    """All that two epochs of three batches leave; the last batch is odd."""
    learner, adversary, gamma = small_learner(method)
    rows = []
    for epoch in range(2):
        row = run_epoch(learner, iter(batches(epoch)), adversary, "fp32", BAR, gamma=gamma)
        rows += [torch.tensor(value, dtype=torch.float64) for value in row.values()]
    return {**left(learner), "rows": torch.stack(rows)}


def small_learner(method: str) -> tuple[Learner, Any, float]:
    """A method of params.yaml on a small network. In float64: no rounding turns the sign of a step of the attack."""
    network = NetworkChoice(name="small_cnn", widths=[8, 8, 8, 12], branch=6, penultimate=10)
    own = recipe(load_params(ROOT / "params.yaml", LOOKUPS), "digits", method, network=network)
    part = ImageSet(np.zeros((1, 1, 8, 8), np.uint8), np.zeros(1, np.int64))
    splits = Splits(part, part, part, [str(number) for number in range(10)], np.array([0.3]), np.array([0.4]))
    learner = new_learner(own, splits, CPU, 0)
    learner.network.double()
    if learner.average is not None:
        learner.average.module["network"].double()
    return learner, recipe_adversary(own), own.awp.gamma if own.awp else 0.0


def batches(epoch: int) -> list[tuple[Tensor, Tensor]]:
    bunch = load_digits()
    images, labels = torch.from_numpy(bunch.images[:, None] / 16.0), torch.from_numpy(bunch.target.astype(np.int64))
    return [(images[index], labels[index]) for index in torch.arange(61).add(61 * epoch).split(24)]


def left(learner: Learner) -> Found:
    network, criterion = (dict(module.state_dict()) for module in learner.trained())
    return {**network, **{f"criterion {name}": value for name, value in criterion.items()}, "draws": learner.generator.get_state()}


def fitted(checkpoint: Path, kill: bool = False) -> Found:
    """Three epochs by `fit` and what they leave, or a start from what is in the checkpoint, or an end in the second epoch."""
    learner, adversary, _ = small_learner("hcp_madry")
    epochs = iter(range(3))

    def drawn(generator: torch.Generator) -> Any:
        epoch = next(epochs)
        for number, (x, y) in enumerate(batches(int(torch.randint(9, (1,), generator=generator)))):
            if kill and (epoch, number) == (1, 2):
                raise Killed
            yield x, y

    fit(
        learner, batches=drawn, images=61, epochs=3, adversary=adversary, precision="fp32", awp=None, keep="last", params={},
        validate=lambda last: {"validation_accuracy": 0.0}, checkpoint=checkpoint, on_epoch=lambda row, rate: None,
    )  # fmt: skip
    return left(learner)


def killed_and_resumed(folder: Path) -> Found:
    """Leaves killed.pt as the kill does."""
    if not (folder / "killed.pt").exists():
        with pytest.raises(Killed):
            fitted(folder / "last.pt", kill=True)
        check_same("that the file is there", str((folder / "last.pt").exists()))
        if rank() == 0:
            shutil.copy(folder / "last.pt", folder / "killed.pt")
    return fitted(folder / "last.pt")


def normalised(count: int) -> Found:
    """Batch norm on its part of `count` maps: outputs, statistics, gradients of a loss with a gradient in it."""
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(count, 3, 4, 5, generator=generator, dtype=torch.float64) * 2 + 1 for _ in range(2))
    norm = nn.Sequential(nn.BatchNorm2d(3)).double()
    nn.init.normal_(norm[0].weight.data, generator=generator)
    norm = with_synced_norms(norm) if world_size() > 1 else norm
    own, sizes = x[own_part(count)].requires_grad_(), part_sizes(count)
    out = norm(own)
    slope = torch.autograd.grad((out.sin() * g[own_part(count)]).sum(), own, create_graph=True)[0]
    (slope.square().sum() + (out.cos() * g[own_part(count)]).sum()).backward()
    gradients = [parameter.grad for parameter in norm.parameters()]
    sum_over_ranks(gradients)
    rows = {name: gather_rows(value.detach(), sizes) for name, value in {"out": out, "slope": slope, "x": own.grad}.items()}
    norm.eval()
    return {**rows, **dict(norm.state_dict()), "weight'": gradients[0], "bias'": gradients[1], "eval": norm(x).detach()}


def turns(sizes: list[int]) -> Found:
    """Who did which rows, and rows of two kinds."""
    ends = np.cumsum(sizes).tolist()
    rows = [
        (torch.arange(end - size, end), torch.ones(size, 2) * number)
        for number, (end, size) in enumerate(zip(ends, sizes, strict=True))
    ]
    done: list[int] = []
    both = map_over_ranks(
        lambda number: done.append(number) or rows[number], sizes, (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
    )
    return {"first": both[0], "second": both[1], "done": torch.tensor(done)}


def refused() -> Found:
    try:
        check_same("the number", str(rank()))
    except ValueError as error:
        return {"error": torch.tensor(list(str(error).encode()))}
    return {}


CASES: dict[str, Callable[[], Found]] = {
    **{method: partial(trained, method) for method in METHODS},
    **{f"norm {count}": partial(normalised, count) for count in (7, 1)},
    **{f"turns {sizes}": partial(turns, sizes) for sizes in ([3, 3, 3, 2], [3])},
    "refused": refused,
}


def main(out: Path) -> None:
    sys.modules |= {"mlflow": None, "dvc": None}  # type: ignore[dict-item]  # as where they are not installed
    torch.set_num_threads(1)
    with process_group():
        if rank():
            Path.replace = lambda path, target: pytest.fail(f"only the first writes {target}")  # type: ignore[method-assign]
        found = {**{name: case() for name, case in CASES.items()}, "resumed": killed_and_resumed(out)}
        tracked: list[str] = []
        pipeline.tracking.run.say = lambda what, stage: tracked.append(what)
        os.chdir(out / "two")
        stages.attack.main("digits", "softmax_fs", 0)
        stages.train.main("digits", "softmax", 0)
        torch.save({**found, "tracked": tracked}, out / f"{rank()}.pt")


# The tests.


def torchrun(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}
    command = ("torchrun", "--standalone", "--nproc-per-node", "2", *command)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` with what one process has made by the stages, `two` with the same data and one model of it."""
    out = tmp_path_factory.mktemp("ranks")
    params = small_params()
    params["datasets"]["digits"]["evaluation"]["batch_size"] = 2  # attacks have 4 batches at hand: 20 images are 3 turns
    (out / "one").mkdir()
    (out / "one/params.yaml").write_text(json.dumps(params))
    before = Path.cwd()
    os.chdir(out / "one")
    try:
        stages.items.main()
        stages.data.main("digits")
        stages.train.main("digits", "softmax_fs", 0)
        stages.train.main("digits", "softmax", 0)
        shutil.copytree(out / "one", out / "two")
        stages.attack.main("digits", "softmax_fs", 0)
    finally:
        os.chdir(before)
    return out


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """`main` by two ranks."""
    ran = torchrun(__file__, str(folder), cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.fixture(scope="module")
def ranks(folder: Path, done: object) -> list[dict[str, Found]]:
    """What both ranks have found."""
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def assert_same(ranks: list[Found], expected: Found, **tolerance: float) -> None:
    assert ranks[0].keys() == ranks[1].keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), f"{name} differs between the ranks"
        torch.testing.assert_close(ranks[0][name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_train_what_one_process_trains(ranks: list[dict[str, Found]], method: str) -> None:
    """Weights, prototypes, averages, statistics of batch norm, rows and the state of the generator."""
    assert_same([found[method] for found in ranks], trained(method), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [7, 1])
def test_synced_batch_norm_is_torchs_on_the_whole_batch(ranks: list[dict[str, Found]], count: int) -> None:
    """Of 7 maps one rank has 3 and the other 4, of 1 map one has none."""
    assert_same([found[f"norm {count}"] for found in ranks], normalised(count), rtol=1e-10, atol=1e-10)


def test_a_killed_run_goes_on_by_any_number_of_ranks(ranks: list[dict[str, Found]], folder: Path, tmp_path: Path) -> None:
    straight = fitted(tmp_path / "straight.pt")
    assert_same([found["resumed"] for found in ranks], straight, rtol=1e-5, atol=1e-6)
    shutil.copy(folder / "killed.pt", tmp_path / "killed.pt")
    assert len(torch.load(tmp_path / "killed.pt")["rows"]) == 1
    by_one = fitted(tmp_path / "killed.pt")
    for name, value in straight.items():
        torch.testing.assert_close(by_one[name], value, rtol=1e-5, atol=1e-6)


def test_work_is_shared_out_over_the_ranks(ranks: list[dict[str, Found]]) -> None:
    first, other = (found["turns [3, 3, 3, 2]"] for found in ranks)
    assert first["done"].tolist() == [0, 2]
    assert other["done"].tolist() == [1, 3]
    assert first["first"].tolist() == other["first"].tolist() == list(range(11))
    assert first["second"].tolist() == [[0, 0]] * 3 + [[1, 1]] * 3 + [[2, 2]] * 3 + [[3, 3]] * 2
    alone = [found["turns [3]"] for found in ranks]
    assert [found["done"].tolist() for found in alone] == [[0], []]
    assert alone[1]["first"].tolist() == [0, 1, 2]
    assert turns([3, 3, 3, 2])["first"].tolist() == list(range(11))


def test_ranks_that_do_not_agree_say_so(ranks: list[dict[str, Found]]) -> None:
    for found in ranks:
        message = bytes(found["refused"]["error"].tolist()).decode()
        assert message.startswith(
            "the number must be the same for all ranks, got 0 on rank 0, 1 on rank 1; they need the same files"
        )


def test_stages_by_two_ranks_write_what_one_process_writes(
    folder: Path, done: subprocess.CompletedProcess[str], ranks: list[dict[str, Any]]
) -> None:
    """Outcomes of attacks byte by byte, the model up to rounding; without DVC and MLflow, and the second rank says nothing."""
    one, two = folder / "one", folder / "two"
    for stage, count in (("attacks", 4), ("verdict", 3)):
        names = sorted(path.name for path in (one / f"data/{stage}/digits/softmax_fs/0").iterdir())
        assert len(names) == count
        for name in names:
            files = [side / f"data/{stage}/digits/softmax_fs/0" / name for side in (one, two)]
            assert files[0].read_bytes() == files[1].read_bytes(), name
    models = [torch.load(side / "models/digits/softmax/0.pt") for side in (one, two)]
    assert models[0]["params"] == models[1]["params"]
    for name, value in models[0]["network"].items():
        torch.testing.assert_close(models[1]["network"][name], value, rtol=1e-2, atol=2e-3)  # 21 steps in float32
    assert (two / "models/digits/softmax/0.csv").read_text().count("\n") == 2
    assert not [path for path in (two / ".ckpt").rglob("*") if path.is_file()]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["digits softmax_fs 0", "digits softmax 0"]
    assert [found["tracked"] for found in ranks] == [["off: mlflow is not installed"] * 2, []]


SCRIPT = """
import torch, torch.distributed as dist
from pipeline.runtime.cli import run_stage
from pipeline.runtime.distributed import process_group, rank

def main(ranks: str) -> None:
    with process_group():
        if str(rank()) in ranks:
            raise ValueError(f"this fails on {ranks}")
        dist.all_reduce(torch.zeros(1))

run_stage(main, ranks="which fail")
"""


@pytest.mark.parametrize("failing", ["1", "01"])
def test_an_error_ends_all_ranks_with_one_message(failing: str, tmp_path: Path) -> None:
    """Also where the first rank then fails for the want of the other."""
    (tmp_path / "script.py").write_text(SCRIPT)
    start = time.monotonic()
    failed = torchrun("script.py", failing, cwd=tmp_path)
    assert time.monotonic() - start < 60  # none is left waiting
    assert failed.returncode != 0
    said = failed.stderr.partition("ChildFailedError")[0]  # from there on torchrun's own table
    assert said.count(f"error: this fails on {failing} (PIPELINE_TRACEBACK=1 shows where)") == 1
    assert "Connection" not in said
    assert "[rank" not in said  # no traceback of ours


def test_the_launcher_runs_a_heavy_stage_in_place_of_python(tmp_path: Path) -> None:
    """What it starts is not to start it again."""
    launcher = f"{sys.executable} -c \"import os, sys; print(sys.argv[1:], 'PIPELINE_LAUNCH' in os.environ)\""
    stage = "from pipeline.runtime.cli import run_stage\nrun_stage(lambda dataset, seed: print('here'), dataset='', seed='')\n"
    seen = {}
    for name, command in (("train", launcher), ("tables", launcher), ("attack", "nonsense --here")):
        (tmp_path / f"{name}.py").write_text(stage)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_LAUNCH": command}
        arguments = [sys.executable, f"{name}.py", "digits", "0"]
        ran = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        seen[name] = (ran.returncode, ran.stdout, ran.stderr.partition(" (")[0])
    assert seen["train"] == (0, "['-m', 'stages.train', 'digits', '0'] False\n", "")
    assert seen["tables"] == (0, "here\n", "")
    assert seen["attack"] == (2, "", "error: PIPELINE_LAUNCH: nonsense is not on the PATH")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
