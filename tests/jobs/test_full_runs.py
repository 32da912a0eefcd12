"""What is a reduced run, and GPU-hours, worked by hand."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import ROOT

from pipeline.jobs.learner import build_network
from pipeline.jobs.plan import full_runs
from pipeline.jobs.plan.calibration import Case
from pipeline.jobs.plan.full_runs import load_runs, needs, read_speeds, reduced_sets, source_texts, training_texts
from pipeline.jobs.plan.tasks import Task, Work
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import Params, load_params


def profile(name: str) -> Params:
    return load_params(ROOT / "profiles" / name / "params.yaml", LOOKUPS)


def test_fewer_epochs_or_images_or_another_network_are_a_reduced_run() -> None:
    params = profile("pcl")
    papers = {"pcl": profile("pcl")}
    schedule = {"pretrain": {"mnist": 50, "cifar10": 200}, "train": {"all": 300}}
    assert reduced_sets(params, {"pcl": schedule}, papers) == set()
    longer = schedule | {"pretrain": {"mnist": 51, "cifar10": 200}}
    assert reduced_sets(params, {"pcl": longer}, papers) == {("pcl", "mnist")}
    all_sets = {("pcl", name) for name in params.run.datasets}
    assert reduced_sets(params, {"pcl": schedule | {"train": {"all": 301}}}, papers) == all_sets
    assert reduced_sets(profile("mnist"), {"pcl": schedule}, papers) == {("pcl", "mnist")}  # a sample of its images
    params.datasets["cifar10"].networks["main"] = profile("cifar10_cpu").datasets["cifar10"].networks["main"]
    assert reduced_sets(params, {"pcl": schedule}, papers) == {("pcl", "cifar10")}
    del papers["pcl"].datasets["cifar10"]  # as of a data set that a profile adds
    assert reduced_sets(params, {"pcl": schedule}, papers) == set()


def test_what_a_run_trains_with() -> None:
    of_hcp = "resnet110 of 18 blocks a stage, batches of 128, PGD of 10 steps, training in bf16"
    assert training_texts(profile("hcp"))["svhn"] == of_hcp
    assert training_texts(profile("pcl"))["mnist"] == "conv6, batches of 256, FGSM, PGD of 10 steps, training in bf16"


def test_which_networks_make_the_images_for_others() -> None:
    assert set(source_texts(profile("pcl")).values()) == {"vgg19 of width 64"}  # of both sources
    assert source_texts(profile("mnist")) == {"mnist": "vgg19 of width 16"}
    assert set(source_texts(profile("hcp")).values()) == {"-"}
    other = profile("mnist")
    other.datasets["mnist"].networks["source"] = other.datasets["mnist"].networks["main"]
    assert source_texts(other)["mnist"] == "conv6"


def test_the_runs_of_a_checkout_are_its_own_and_its_profiles() -> None:
    assert [*load_runs(ROOT)] == [
        "params.yaml",
        *(f"profiles/{name}/params.yaml" for name in ("cifar10", "cifar10_cpu", "fashion_mnist", "hcp", "mnist", "pcl")),
    ]


def test_needs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def case(network: str) -> Case:
        return Case(f'{{"network": {{"name": "{network}"}}, "batch_size": 8}}', (1, 28, 28), 10, 8)

    def task(stage: str, method: str, network: str = "conv6", **rest: Any) -> Task:
        return Task(stage, f"{stage}@mnist-{method}-0", "mnist", method, case(network), **rest)

    work = Work(step=30.0, training_gradient=15.0, gradient=30.0, forward=60.0)  # 80 steps: 8 s
    made = [
        Task("data", "data@mnist", "mnist", seconds=50.0, bytes=1000),
        task("pretrain", "softmax", work=Work(step=40.0), models=1),  # 4 s
        task("finetune", "hcp", work=work, models=1),  # 8 s
        task("finetune", "adp", work=Work(step=10.0), models=3),  # 1 s
        task("sources", "vgg", "vgg19", work=Work(step=100.0), models=1),  # 20 s
        task("attack", "hcp", work=Work(forward=60.0), seconds=7.0, features=5, bytes=30),  # 9 s
        task("attack", "adp", work=Work(gradient=150.0)),  # 10 s
        replace(task("transfer", "hcp", work=Work(forward=30.0)), item="transfer@mnist-0"),  # 1 s
        replace(task("transfer", "adp", work=Work(forward=30.0)), item="transfer@mnist-0"),  # 1 s
        Task("tables", "tables", seconds=100.0),
    ]
    monkeypatch.setattr(full_runs, "tasks", lambda items: made)
    monkeypatch.setattr(full_runs, "_size", lambda case: (100, 7))
    params = profile("pcl")
    params = params.model_copy(update={"run": params.run.model_copy(update={"datasets": ["mnist"]})})
    need = needs(params, {"conv6": 10.0, "resnet110": 5.0})["mnist"]
    assert need.hours * 3600 == pytest.approx(4 + 8 + 1 + 20 + 9 + 10 + 1 + 1)
    assert need.chain * 3600 == pytest.approx(4 + 20 + 2)  # softmax, VGG-19, transfer: longer than softmax, HCP, its attacks
    assert need.disk == 1000 + 30 + 4 * (6 * 100 + 5 * 7)
    assert need.items == 8


def test_the_size_of_a_network_is_that_of_its_file() -> None:
    recipe = {"network": {"name": "small_cnn", "widths": [2, 2, 2, 2], "branch": 3, "penultimate": 5}}
    numbers, width = full_runs._size(Case(json.dumps(recipe), (1, 8, 8), 10, 8))
    half = torch.full((1,), 0.5)
    network = build_network(recipe["network"], 1, 10, half, half)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    assert 4 * numbers < buffer.tell() < 4 * numbers + 20_000
    assert width == sum(network.dims.values())


def test_speeds_are_those_of_the_benchmark() -> None:
    speeds = read_speeds(ROOT / "metrics/benchmarks/nvidia-h200")
    assert speeds == pytest.approx({"resnet110": (9733.7 + 11251.1) / 2, "conv6": 88120}, rel=1e-3)  # conv6: of training.md
