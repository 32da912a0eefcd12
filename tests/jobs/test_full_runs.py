"""What is a reduced run, and GPU-hours, worked by hand."""

import pytest
from conftest import ROOT

from pipeline.jobs import full_runs
from pipeline.jobs.calibration import Case
from pipeline.jobs.full_runs import gpu_hours, method_keys, read_speeds, reduced_sets
from pipeline.jobs.plan import Task, Work
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import Params, load_params


def profile(name: str) -> Params:
    return load_params(ROOT / "profiles" / name / "params.yaml", LOOKUPS)


def test_fewer_epochs_or_images_are_a_reduced_run() -> None:
    params = profile("pcl")
    schedule = {"pretrain": {"mnist": 50, "cifar10": 200}, "train": {"all": 300}}
    assert reduced_sets(params, {"pcl": schedule}) == set()
    longer = schedule | {"pretrain": {"mnist": 51, "cifar10": 200}}
    assert reduced_sets(params, {"pcl": longer}) == {("pcl", "mnist")}
    assert reduced_sets(params, {"pcl": schedule | {"train": {"all": 301}}}) == {("pcl", name) for name in params.run.datasets}
    assert {("pcl", "mnist"), ("pcl", "fashion_mnist")} <= reduced_sets(profile("short"), {"pcl": schedule})  # a sample of images


def test_methods_go_by_their_published_names() -> None:
    assert {"softmax_fs", "pcl_deep", "vgg_at_fgsm"} <= method_keys(profile("pcl"))


def test_gpu_hours_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def case(network: str) -> Case:
        return Case(f'{{"network": {{"name": "{network}"}}, "batch_size": 8}}', (1, 28, 28), 10, 8)

    work = Work(step=30.0, training_gradient=15.0, gradient=30.0, forward=60.0)  # 80 steps
    made = [
        Task("finetune", "a", "mnist", "hcp", case("conv6"), work),
        Task("attack", "b", "mnist", "hcp", case("conv6"), Work(forward=60.0), seconds=7.0),  # 20 steps
        Task("sources", "c", "svhn", "vgg", case("vgg19"), Work(step=10.0)),
        Task("tables", "tables", seconds=100.0),
    ]
    monkeypatch.setattr(full_runs, "tasks", lambda items: made)
    hours = gpu_hours(profile("pcl"), {"conv6": 10.0, "resnet110": 5.0})
    assert hours == pytest.approx({"mnist": 17.0 / 3600, "svhn": 2.0 / 3600})


def test_speeds_are_those_of_the_benchmark() -> None:
    speeds = read_speeds(ROOT / "metrics/benchmarks/nvidia-h200")
    assert speeds == pytest.approx({"resnet110": (9733.7 + 11251.1) / 2, "conv6": 88120}, rel=1e-3)  # conv6: of training.md
