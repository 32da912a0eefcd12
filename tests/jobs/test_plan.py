"""What a run would take: counts worked by hand, and counted on the attacks themselves."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from torch import Tensor, nn

from pipeline.attacks import ATTACKS
from pipeline.data.image_set import ImageSet, Splits, save_splits
from pipeline.jobs.plan import calibration
from pipeline.jobs.plan import tables as plan_tables
from pipeline.jobs.plan import tasks as counting
from pipeline.jobs.plan.calibration import Speed, calibrate
from pipeline.jobs.plan.tables import as_text, summed_up
from pipeline.jobs.plan.tasks import Size, Task, Work, attack_work, attacks_work, data_size, tasks, training_work
from pipeline.params.choices import AttackChoice
from pipeline.params.items import AttackItem, Compute, DataItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, recipe
from pipeline.params.schema import load_params

PARAMS = load_params(ROOT / "params.yaml", LOOKUPS)
ITEMS = all_items(PARAMS)
CPU = Compute(device="cpu", precision="fp32", threads=1)
SMALL = Size(train=100, validation=10, test=40, shape=(1, 8, 8), classes=10)


def choice(name: str, **options: Any) -> AttackChoice:
    return AttackChoice.model_validate({"name": name, **options})


class Unbroken(nn.Module):
    """Always class 0, far ahead; counts the images that it sees, with a gradient and without."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1e-3 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0)))
        self.seen: Counter[str] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        self.seen["gradient" if x.requires_grad else "forward"] += len(x)
        return x.flatten(1) @ self.weight + 100 * torch.eye(10)[0]


@pytest.mark.parametrize(
    ("name", "options", "gradients", "forwards"),
    [
        ("fgsm", {}, 1, 0),
        ("pgd", {"steps": 10, "rel_step_size": 0.25}, 10, 0),
        ("mim", {"steps": 7, "rel_step_size": 0.1, "decay": 1.0}, 7, 0),
        ("apgd", {"steps": 5, "restarts": 2}, 12, 1),  # each restart looks at its start too
        ("apgd_targeted", {"steps": 5, "restarts": 1, "targets": 3}, 18, 1),
        ("apgd_targeted", {"steps": 2, "restarts": 1, "targets": 20}, 27, 1),  # there are 9 wrong classes
        ("fab", {"steps": 5, "restarts": 2, "targets": 3}, 30, 31),
        ("square", {"queries": 20, "p_init": 0.8}, 0, 20),
    ],
)
def test_an_attack_is_counted_as_it_is_on_images_that_never_break(
    name: str, options: dict[str, Any], gradients: int, forwards: int
) -> None:
    model, x = Unbroken(), torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ATTACKS[name](model, x, torch.zeros(4, dtype=torch.int64), 0.01, **options)
    assert model.seen == Counter({"gradient": 4 * gradients, "forward": 4 * forwards})
    assert attack_work(choice(name, **options), classes=10) == Work(gradient=gradients, forward=forwards + 1)  # and the prediction


def test_cw_is_counted_with_all_its_searches() -> None:
    cw = choice("cw", confidence=0.0, learning_rate=0.01, steps=1000, binary_search_steps=3)
    assert attack_work(cw, classes=10) == Work(gradient=3000, forward=2)


@pytest.mark.parametrize(
    ("method", "step", "gradient", "forward"),
    [
        ("softmax_fs", 200, 0, 20),
        ("madry", 200, 2100, 30),  # 2 epochs x 100 images x 10 steps; in the end on the 10 of validation
        ("at", 400, 2100, 30),  # clean and attacked
        ("at_fgsm", 400, 210, 230),  # looks first what the model predicts
        ("trades", 400, 2100, 230),
        ("awp", 400, 2100, 30),  # one more pass
        ("input_gradient", 500, 0, 20),
        ("adp", 600, 0, 60),  # three networks
        ("ema", 200, 2200, 40),  # the best epoch is that under attack
    ],
)
def test_training_is_counted_by_hand(method: str, step: float, gradient: float, forward: float) -> None:
    own = recipe(PARAMS, "digits", method, epochs=2)
    assert training_work(own, SMALL) == Work(step, training_gradient=gradient, forward=forward)


def test_awp_counts_from_where_it_begins() -> None:
    own = recipe(PARAMS, "digits", "awp", epochs=4)
    late = own.model_copy(update={"awp": own.awp and own.awp.model_copy(update={"warmup": 0.5})})
    assert training_work(late, SMALL).step == 100 * (2 + 2 * 2)


@pytest.fixture
def all_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "ACTIVE", dict.fromkeys(counting.ACTIVE, (1.0, 1.0)))


def attack_item(method: str, **verdict: Any) -> AttackItem:
    item = ITEMS["digits", "attack", method]
    assert isinstance(item, AttackItem)
    parts = PARAMS.autoattack["standard"]
    judging = item.verdict.model_copy(update={"autoattack": parts, "images": "all", **verdict})
    return item.model_copy(update={"verdict": judging, "eps": [0.1, 0.15], "images": "all"})


@pytest.mark.usefixtures("all_active")
def test_attacks_are_counted_by_hand() -> None:
    own, item = recipe(PARAMS, "digits", "contrastive"), attack_item("contrastive", steps=[1, 5, 20])
    papers = 2 * (1 + 10 + 10 + 10)
    autoattack = 101 + 9 * 101 + 9 * 100  # APGD, targeted APGD, FAB
    adaptive = 3 * 2 * 21  # cross entropy, DLR, features
    rest = 26 + 20 + 2 * 20 + 2 + 20  # PGD's steps, no bound, two signs of masked gradients by PGD, the others, the sibling
    assert attacks_work(item, own, SMALL).gradient == 40 * (papers + autoattack + adaptive + rest)
    knowing = recipe(PARAMS, "digits", "hcp")  # whose loss can be climbed, also towards each of 9 classes
    more = attacks_work(item, knowing, SMALL).gradient - attacks_work(item, own, SMALL).gradient
    nearest, membership = 3 * 2 * 21 + 9 * 2 * 21, 1.5 * 2 * 21 + 9 * 2 * 21
    assert more == 40 * (2 * 21 + 9 * 2 * 21 + nearest + membership)
    twice = attack_item("contrastive", steps=[1, 5, 20], confirm=item.verdict.autoattack)
    assert attacks_work(twice, own, SMALL).gradient - attacks_work(item, own, SMALL).gradient == 40 * autoattack


@pytest.mark.usefixtures("all_active")
def test_l2_cw_and_noise_come_to_the_attacks_where_they_are_measured() -> None:
    own, item = recipe(PARAMS, "digits", "softmax_fs"), attack_item("softmax_fs")
    l2 = attacks_work(item, own, SMALL).gradient - attacks_work(attack_item("softmax_fs", l2=None), own, SMALL).gradient
    assert l2 == 40 * (101 + 9 * 101 + 9 * 100)
    noise = attacks_work(item, own, SMALL).gradient - attacks_work(item.model_copy(update={"noise": None}), own, SMALL).gradient
    assert noise == 40 * 100 * 2
    few = item.model_copy(update={"cw_images": 10, "c": [0.1, 1.0]})
    without = item.model_copy(update={"cw": None})
    assert attacks_work(few, own, SMALL).gradient - attacks_work(without, own, SMALL).gradient == 10 * 2 * 200


def test_models_that_break_at_once_take_less() -> None:
    item = attack_item("contrastive")
    weak, strong = (attacks_work(item, recipe(PARAMS, "digits", name), SMALL) for name in ("contrastive", "madry"))
    assert all(less <= more for less, more in zip(astuple(weak), astuple(strong), strict=True))


def data_item(source: dict[str, Any], **sample: Any) -> DataItem:
    values = {"source": source, "sample": {"train": "all", "test": "all", "seed": 0, **sample}}
    return DataItem.model_validate({**values, "validation": {"fraction": 0.1, "seed": 0}, "code": {}})


def test_sizes_of_public_sets_are_known() -> None:
    digits = data_item({"name": "sklearn_digits", "test_fraction": 0.2, "seed": 0})
    assert data_size("digits", digits) == Size(1293, 144, 360, (1, 8, 8), 10)
    assert data_size("x", data_item({"name": "public_set", "dataset": "svhn"})) == Size(65931, 7326, 26032, (3, 32, 32), 10)
    assert data_size("x", data_item({"name": "torchvision", "dataset": "FashionMNIST"}, train=1005, test=500))[:3] == (
        904,
        101,
        500,
    )


def test_other_sets_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    item = data_item({"name": "image_folder", "folder": "x"})
    with pytest.raises(ValueError, match="run `dvc repro data` first"):
        data_size("own", item)
    half, labels = np.full(3, 0.5), np.arange(6, dtype=np.int64) % 2
    part = ImageSet(np.zeros((6, 3, 9, 9), dtype=np.uint8), labels)
    save_splits("data/own.npz", Splits(part, part, part, ["a", "b"], half, half))
    assert data_size("own", item) == Size(6, 6, 6, (3, 9, 9), 2)


SPEED = Speed(4e-3, 3e-3, 2e-3, 1e-3, parameters=1000, width=50, flops=1e6, memory=10**9)
STARTS = {"training": 6.0, "attack": 4.0, "other": 1.0}


def planned(counted: list[Task], jobs: int = 1) -> dict[str, Any]:
    return summed_up(counted, {task.case: SPEED for task in counted if task.case}, STARTS, CPU, jobs)


def test_every_item_of_dvc_is_in_the_plan() -> None:
    stages = {row["stage"]: row["items"] for row in planned(list(tasks(ITEMS)))["stages"]}
    run, seeds = PARAMS.run, len(PARAMS.run.seeds)
    assert list(stages) == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert stages["finetune"] == stages["attack"] == len(run.methods) * seeds
    assert stages["sources"] == len(PARAMS.transfer.sources) * seeds


def test_totals_are_the_sum_of_each_table_and_can_be_written_as_json() -> None:
    made = planned(list(tasks(ITEMS)))
    for table in ("stages", "methods", "datasets"):
        assert sum(row["hours"] for row in made[table]) == pytest.approx(made["total"]["hours"])
    assert json.loads(json.dumps(made)) == made
    assert "hcp_at" in as_text(made)


@pytest.mark.parametrize(
    ("precision", "hardware", "warned"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_a_part_of_the_run_is_planned_and_slow_bf16_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str, hardware: bool, warned: bool
) -> None:
    monkeypatch.setattr(plan_tables, "has_bf16", lambda device: hardware)
    monkeypatch.setattr(plan_tables, "process_start", lambda *, training: 1.0)
    compute = PARAMS.compute.model_copy(update={"precision": precision})
    made = plan_tables.make_plan(all_items(PARAMS.model_copy(update={"compute": compute})), 1, {"items", "report"})
    assert [row["stage"] for row in made["stages"]] == ["items", "report"]
    assert made["networks"] == []
    assert "Time: " in as_text(made)
    assert ("warning: bf16 without instructions" in capsys.readouterr().err) == (precision == "bf16" and not hardware)


def test_hours_disk_and_memory_by_hand() -> None:
    case = next(task.case for task in tasks(ITEMS) if task.case)
    one = Task("finetune", "a", "digits", "hcp", case, Work(step=1000, forward=500), memory=7, models=3)
    two = Task("attack", "b", "digits", "hcp", case, Work(gradient=100), features=20, bytes=11)
    made = planned([one, two, Task("report", "report", seconds=5)])
    (method,) = (row for row in made["methods"] if row["method"] == "hcp")
    assert method["train"] * 3600 == pytest.approx(4 + 0.5 + 6)
    assert method["attack"] * 3600 == pytest.approx(0.2 + 4)
    assert made["total"]["hours"] * 3600 == pytest.approx(10.5 + 4.2 + 6)
    assert made["stages"][0]["flops"] == 1e6 * (3 * 1000 + 500)
    assert made["total"]["disk"] == {"datasets": 0, "models": 3 * 1000 * 4, "attacks": 20 * 50 * 4 + 11}
    assert made["total"]["memory"] == 10**9 + 7


def test_methods_that_take_next_to_nothing_stand_in_one_row() -> None:
    case = next(task.case for task in tasks(ITEMS) if task.case)
    small = [Task("report", name, "digits", name, seconds=0.4) for name in ("hcp", "pcl", "center")]
    made = planned([Task("finetune", "a", "digits", "madry", case, Work(step=200_000)), *small])
    assert {row["method"] for row in made["methods"]} == {"madry", "hcp", "pcl", "center"}
    text = as_text(made)
    assert "madry" in text
    assert "3 others" in text
    assert "center" not in text


def test_jobs_share_the_cores_but_not_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    case = next(task.case for task in tasks(ITEMS) if task.case)
    work = [Task("attack", name, "digits", "hcp", case, Work(gradient=500)) for name in "ab"] + [Task("report", "report")]
    speeds = {case: SPEED}
    beside: Callable[..., dict[str, Any]] = partial(summed_up, work, speeds, STARTS)
    assert beside(CPU, 2)["total"]["hours_side_by_side"] * 3600 == pytest.approx((1 + 4) * 2 / 2 + 1)
    assert beside(CPU.model_copy(update={"threads": 0}), 2)["total"]["at_once"] == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert beside(CPU.model_copy(update={"device": "auto"}), 2)["total"]["at_once"] == 1


def test_a_subset_of_the_methods_is_a_smaller_plan() -> None:
    run = PARAMS.run.model_copy(update={"methods": ["softmax_fs", "hcp"]})
    transfer = PARAMS.transfer.model_copy(update={"sources": []})
    few = all_items(PARAMS.model_copy(update={"run": run, "transfer": transfer}))
    made = planned(list(tasks(few)))
    assert {row["method"] for row in made["methods"]} == {"all", "softmax", "softmax_fs", "hcp"}
    assert len(made["networks"]) == 1


def test_calibration_runs_the_pipeline_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    speed = calibrate(next(task.case for task in tasks(ITEMS) if task.case), CPU, CPU)
    assert min(speed) > 0
    assert speed.flops > 2 * 64 * 9 * 32  # its first convolution


def test_the_script_says_in_a_line_what_it_lacks(tmp_path: Path) -> None:
    changed = {"extends": str(ROOT / "params.yaml"), "root": str(ROOT)}
    source = {"name": "image_folder", "folder": "x", "size": 8, "channels": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**changed, "datasets": {"digits": {"source": source}}}))
    command = [sys.executable, "-m", "stages.plan", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "dvc repro data" in line
