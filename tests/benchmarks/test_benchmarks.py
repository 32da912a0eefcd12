"""What the benchmarks count and compare: arithmetic on made numbers, equal conditions for what is compared, and going on."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.optim import SGD

from benchmarks import (
    attacks,
    autoattack,
    cw_steps,
    defences,
    measure,
    peers,
    plain,
    precision,
    repro,
    steps,
    subjects,
    summary,
    training,
)
from benchmarks.results import Report, Target, fill_sizes, write
from pipeline.data.batches import to_float, training_batches
from pipeline.data.image_set import ImageSet, Splits
from pipeline.evaluation.robustness import attackable
from pipeline.jobs.learner import new_learner
from pipeline.params.choices import NetworkChoice
from pipeline.params.schema import load_params

CPU = torch.device("cpu")
SMALL = {"name": "small_cnn", "widths": [4, 8, 8, 16], "branch": 8, "penultimate": 16}


def test_each_is_compared_with_the_base_before_and_after_it() -> None:
    base = iter([2.0, 4.0, 8.0])
    called = []
    found = measure.between(
        lambda: called.append("base") or next(base),
        {"a": lambda: called.append("a") or 3.0, "b": lambda: called.append("b") or 9.0},
    )
    assert found == {"a": (3.0, 3.0), "b": (9.0, 6.0)}
    assert called == ["base", "a", "base", "b", "base"]


def test_quartiles_of_known_numbers() -> None:
    assert measure.quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)


def test_rounds_go_on_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(measure.rounds(0.0, 3)) == [0, 1, 2]
    clock = iter(range(100))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    assert list(measure.rounds(4.0, 1)) == [0, 1, 2, 3]  # starts at 0; after each round a second more has gone by


def test_a_child_s_memory_is_its_own() -> None:
    big = bytearray(200_000_000)  # of the process that starts it
    del big
    small, large = (measure.child([sys.executable, "-c", f"x = b'1' * {n}; print('a'); print('end')"]) for n in (1, 100_000_000))
    assert small.last == large.last == "end"
    assert small.peak < 60_000_000
    assert 90_000_000 < large.peak - small.peak < 110_000_000


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match=r"(?s)ended with 3: .*no such thing"):
        measure.child([sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"])


def test_sizes_follow_the_device_unless_they_are_given() -> None:
    sizes = {"images": measure.Size(1, 2, 3, "of them"), "rate": measure.Size(0.1, 0.2, 0.3, "")}
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    measure.add_sizes(parser, sizes)
    for arguments, device, expected in (
        ([], "cpu", (2, 0.2)),
        (["--quick"], "cpu", (1, 0.1)),
        (["--images", "7"], "cuda", (7, 0.3)),
    ):
        chosen = parser.parse_args(arguments)
        fill_sizes(chosen, sizes, torch.device(device))
        assert (chosen.images, chosen.rate) == expected


def test_ratios_of_steps_and_their_limits() -> None:
    rows = pd.DataFrame(
        [
            ("resnet110", "hcp", 0, 1.0, 1.0),
            ("resnet110", "hcp", 1, 2.2, 2.0),
            ("resnet110", "hcp", 2, 1.02, 1.0),
            ("resnet110", "pcl", 0, 1.2, 1.0),
            ("conv6", "pcl", 0, 1.5, 1.0),
        ],
        columns=["network", "loss", "repeat", "seconds", "ce_seconds"],
    )
    table, targets = steps.summary(rows, {"resnet110": 0.5, "conv6": 0.5})
    assert [(target.value, target.met) for target in targets] == [(pytest.approx(1.02), True), (pytest.approx(1.2), False)]
    assert table["times ce, median (quartiles)"].tolist() == [
        *("1", "1.020 (1.010 to 1.060)", "1.200 (1.200 to 1.200)"),
        *("1", "1.500 (1.500 to 1.500)"),
    ]
    assert table["share of the peak"].tolist()[:3] == ["50.0%", "49.0%", "41.7%"]  # cross entropy: a median second


def test_images_a_second_and_their_ratio() -> None:
    rows = pd.DataFrame(
        [("resnet110", 0, 30.0, 10.0), ("resnet110", 1, 20.0, 10.0)], columns=["network", "repeat", "ours", "plain"]
    )
    table, targets = training.summary(rows, {"resnet110": {"ours": 0.01, "plain": 0.02}}, "fp32")
    assert [(target.value, target.met) for target in targets] == [(2.5, True)]
    assert table["ours, share of the peak"].tolist() == ["25.0%"]
    assert table["plain, share of the peak"].tolist() == ["20.0%"]


def attack_rows(**left: list[int]) -> pd.DataFrame:
    """Seconds 1, 2, 3 for the first, second, third library, in two repeats; on 100 images."""
    rows = [
        ("net", "cifar10", "at", "pgd", 0.1, 100, 95, repeat, library, float(number + 1), counts[repeat], 0.5, 0.25)
        for number, (library, counts) in enumerate(left.items())
        for repeat in (0, 1)
    ]
    columns = [
        "network",
        "data",
        "model",
        "attack",
        "eps",
        "images",
        "clean",
        "repeat",
        "library",
        "seconds",
        "left",
        "l2",
        "floor",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_a_weaker_attack_is_no_peer_in_speed() -> None:
    table, targets = attacks.summary(attack_rows(foolbox=[52, 52], ours=[50, 50], art=[51, 51]))
    assert table["ours over the fastest as strong"].tolist() == ["0.667 (0.667 to 0.667) of art"]
    assert [(target.value, target.met) for target in targets] == [(pytest.approx(2 / 3), False), (-1.0, True)]  # at most half
    table, targets = attacks.summary(attack_rows(foolbox=[48, 48], ours=[50, 50]))
    assert [(target.value, target.met) for target in targets] == [(2.0, False), (2.0, False)]
    both = pd.concat([attack_rows(foolbox=[48, 48], ours=[50, 50]), attack_rows(foolbox=[8, 8], ours=[6, 8]).assign(eps=0.2)])
    table, targets = attacks.summary(both)  # a line and targets for each eps; images left in the mean over repeats
    assert table["eps or c"].tolist() == ["0.1", "0.2"]
    assert [target.value for target in targets] == [2.0, 2.0, 2.0, -1.0]


def test_what_is_measured_again_takes_the_place_of_what_was() -> None:
    before = pd.concat([attack_rows(ours=[50, 50]), attack_rows(ours=[40, 40]).assign(eps=0.2)])
    before = pd.concat([before, attack_rows(ours=[60, 60]).assign(model="pcl")])
    kept = attacks.without(before, attack_rows(ours=[30, 30]))
    assert kept["left"].tolist() == [40, 40, 60, 60]
    assert attacks.without(pd.DataFrame(), before).empty


def test_a_second_eps_has_no_cw_and_no_place_for_cw_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "digits_subject", lambda params, eps, chosen, device: eps)

    def planned(*names: str) -> list[Any]:
        chosen = argparse.Namespace(subjects=["digits"], digits_eps=[0.1, 0.15], attacks=list(names))
        return list(attacks.plan(load_params(ROOT / "params.yaml"), chosen, torch.device("cpu")))

    assert planned("pgd", "cw") == [(0.1, ["pgd", "cw"]), (0.15, ["pgd"])]
    assert planned("cw") == [(0.1, ["cw"])]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Splits:
    """ResNet-110 is a small network, and its images are 64 of the digits for training."""
    monkeypatch.setitem(subjects.NETWORKS, "resnet110", NetworkChoice.model_validate(SMALL))
    monkeypatch.setitem(subjects.SHAPES, "resnet110", (3, 12))
    monkeypatch.chdir(ROOT)
    return training.enough(subjects.load_images("resnet110", None), 64)


def test_digits_take_the_size_of_the_network_s_own_data(small: Splits) -> None:
    assert small.train.images.shape == (64, 3, 12, 12)
    assert small.train.images.max() > 200
    assert subjects.load_images("conv6", None).test.images.shape == (360, 1, 28, 28)


def test_images_are_repeated_where_there_are_too_few(small: Splits) -> None:
    index = np.arange(150) % 64
    assert np.array_equal(training.enough(small, 150).train.labels, small.train.labels[index])


def test_both_loops_start_from_one_model(small: Splits) -> None:
    params = load_params()
    recipe = subjects.recipe_for(params, "softmax_fs", "resnet110", batch_size=16, epochs=1, pad=0, flip=False, eps=0.0)
    ours, theirs = (new_learner(recipe, small, CPU, seed=0).network.eval() for _ in range(2))
    x = to_float(torch.from_numpy(small.train.images[:8]))
    mean, std = (torch.from_numpy(values).float()[:, None, None] for values in (small.mean, small.std))
    torch.testing.assert_close(plain.plain_network(theirs)((x - mean) / std), ours(x), rtol=1e-4, atol=1e-5)


def test_both_loops_see_the_same_images(small: Splits) -> None:
    options = {"batch_size": 16, "pad": 0, "flip": False}
    theirs = list(plain.loader(small.train, small.mean.tolist(), small.std.tolist(), workers=0, pin=False, **options))
    labels = torch.from_numpy(small.train.labels)
    ours = list(training_batches(torch.from_numpy(small.train.images), labels, torch.Generator().manual_seed(0), **options))
    assert [len(y) for _, y in theirs] == [len(y) for _, y in ours] == [16] * 4
    mean, std = (torch.from_numpy(values).float()[:, None, None] for values in (small.mean, small.std))
    theirs = [(x * std + mean, y) for x, y in theirs]

    def in_order(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        order = x.flatten(1).double().matmul(torch.linspace(0, 1, x[0].numel(), dtype=torch.float64)).argsort()
        return x[order], y[order]

    torch.testing.assert_close(in_order(theirs), in_order(ours))


def test_both_loops_learn(small: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PAD", 1)
    monkeypatch.setattr(training, "FLIP", False)
    params, few = load_params(), training.enough(small, 64)
    for epoch in (
        training.our_epoch(params, "resnet110", few, CPU, "fp32", batch=16),
        training.plain_epoch(params, "resnet110", few, CPU, batch=16, workers=0),
    ):
        losses = [epoch() for _ in range(12)]
        assert losses[-1] < 0.8 * losses[0]


def test_the_plain_loop_counts_what_it_has_right() -> None:
    images = ImageSet(np.array([0, 255, 255, 0], dtype=np.uint8).reshape(4, 1, 1, 1), np.array([0, 1, 0, 1]))
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-10.0], [10.0]]))
        network[1].bias.copy_(torch.tensor([5.0, -5.0]))  # black is 0, white is 1
    batches = plain.loader(images, [0.0], [1.0], batch_size=2, pad=0, flip=False, workers=0, pin=False)
    loss, right = plain.epoch(network, SGD(network.parameters(), lr=0.0), None, batches, CPU)
    assert right == 50.0
    assert loss == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize("loss", subjects.LOSSES)
def test_losses_are_on_the_layers_that_are_said(loss: str, small: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(steps, "step", lambda learner, *_: seen.append(learner))
    steps.stepper(load_params(), "resnet110", subjects.LOSSES[loss], small, device=CPU, precision="fp32", batch=8)
    assert list(seen[0].criterion.losses) == ([] if loss == subjects.BASE else ["layer3", "layer4", "layer5"])


@pytest.fixture
def task(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> peers.Task:
    return peers.Task(nn.Sequential(trained).float().eval(), digits[0].float(), digits[1], "linf", 0.1, 10, seed=0, batch_size=50)


@pytest.mark.parametrize("library", peers.LIBRARIES)
@pytest.mark.parametrize("attack", ["pgd", "bim", "mim", "cw"])
def test_the_libraries_are_set_to_our_strength(library: str, attack: str, task: peers.Task) -> None:
    if library == "torchattacks" and peers.lacking(library):  # cannot be a dependency; the others come with the tests
        pytest.skip("torchattacks is not installed")
    options = load_params(ROOT / "params.yaml").attacks[attack].options | ({"steps": 12} if attack == "cw" else {})
    if attack == "cw":
        task = task._replace(eps=1.0, x=task.x[:40], y=task.y[:40])
    torch.manual_seed(0)
    theirs = peers.LIBRARIES[library](task, attack, options)
    ours = attacks.ours(task, attack, options, victim=attackable(task.model, task.x))
    counts = [peers.left(task, x_adv, bounded=attack != "cw") for x_adv in (ours, theirs)]
    assert 0.1 < counts[0] / len(task.x) < 0.9
    if attack != "cw" or library == "foolbox":  # torchattacks leaves black pixels black, ART searches the length of each step
        assert abs(counts[0] - counts[1]) <= (4 if attack == "pgd" else 1)  # PGD starts elsewhere in each
    if attack in ("bim", "mim"):
        standing = task.model(ours).argmax(1) == task.y  # which ours has not stopped at either
        assert torch.isclose(ours[standing], theirs[standing], atol=1e-5).double().mean() > 0.99  # a sign may fall either way


def test_the_authors_autoattack_leaves_as_many(task: peers.Task) -> None:
    if peers.lacking("official"):  # not on the package index
        pytest.skip("the authors' code is not installed, see docs/autoattack.md")
    parts = load_params(ROOT / "params.yaml").autoattack["standard"]
    task = task._replace(eps=0.12, x=task.x[:40], y=task.y[:40])
    counts = [peers.left(task, x_adv) for x_adv in (autoattack.ours(task, parts), autoattack.official_standard(task))]
    assert counts[0] == pytest.approx(counts[1], abs=1)
    assert 2 < counts[1] < 38


def test_what_foolbox_s_cw_does_not_break_is_put_back(task: peers.Task) -> None:
    options = {"binary_search_steps": 1, "steps": 2, "learning_rate": 1e-6, "confidence": 0.0}
    right = task.model(task.x).argmax(1) == task.y
    x_adv = peers.foolbox(task._replace(eps=1.0), "cw", options)
    assert torch.equal(x_adv[right], task.x[right])


@pytest.mark.parametrize(("eps", "standing"), [(0.1, 0), (0.05, 1)])
def test_without_a_bound_any_image_in_range_counts(eps: float, standing: int, task: peers.Task) -> None:
    wrong = (task.model(task.x).argmax(1) + 1) % 10
    one = task._replace(x=task.x[:1] * 0.8, y=wrong[:1], eps=eps)
    moved = one.x + 0.1 * BELOW
    assert peers.left(one._replace(model=Always(0), y=torch.tensor([1])), moved) == standing
    assert peers.left(one._replace(model=Always(0), y=torch.tensor([1])), moved, bounded=False) == 0
    assert peers.left(one._replace(model=Always(0), y=torch.tensor([1])), moved + 1, bounded=False) == 1


BELOW = 0.999


class Always(nn.Module):
    """Says one class of everything."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(x),), self.label), 10).float()


def row(**changes: Any) -> dict[str, Any]:
    return {"dataset": "digits", "model": "at", "norm": "linf", "eps": 0.1, "attack": "ours", "seed": 0, "images": 200} | changes


def test_what_was_measured_is_not_measured_again(task: peers.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(autoattack, "run", lambda task, attack: (ran.append((attack, task.seed)), (10 + task.seed, 1.0))[1])
    file = tmp_path / "table.csv"

    def measured(key: str, *, again: bool = False) -> pd.DataFrame:
        table = pd.read_csv(file, dtype={"key": str}) if file.exists() else pd.DataFrame(columns=autoattack.COLUMNS)
        todo = [
            autoattack.Cell(row(attack=name, seed=seed, key=key if name == "ours" else "1e3"), task._replace(seed=seed))
            for seed in (0, 1)
            for name in ("ours", "art")
        ]
        keep = partial(pd.DataFrame.to_csv, path_or_buf=file, index=False)
        return autoattack.go_on(table, todo, {"ours": "ours", "art": "art"}, again=again, keep=keep)

    assert len(measured("a")) == 4
    assert ran == [("ours", 0), ("art", 0), ("ours", 1), ("art", 1)]
    ran.clear()
    assert measured("a")["left"].tolist() == [10, 10, 11, 11]
    assert ran == []
    assert sorted(measured("b")["key"]) == ["1e3", "1e3", "b", "b"]  # in place of the old ones
    assert ran == [("ours", 0), ("ours", 1)]
    ran.clear()
    assert len(measured("b", again=True)) == 4
    assert len(ran) == 4


def test_a_count_follows_from_the_model_and_ours_from_our_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = tmp_path / "0.pt", load_params(ROOT / "params.yaml").autoattack
    model.write_text("weights")
    first = autoattack.keys(["ours", "art"], [model], 200, parts)
    assert autoattack.keys(["ours", "art"], [model], 200, parts) == first
    model.write_text("other weights")
    assert set(autoattack.keys(["ours", "art"], [model], 200, parts).values()).isdisjoint(first.values())
    model.write_text("weights")
    assert set(autoattack.keys(["ours", "art"], [model], 100, parts).values()).isdisjoint(first.values())
    code = autoattack.code_of_names("attack", attacks=[choice.name for choice in parts["standard"].values()])
    for file, same in (
        ("pipeline/attacks/apgd.py", False),
        ("pipeline/models/folded.py", False),
        ("pipeline/jobs/attack.py", True),
    ):
        assert file in code
        monkeypatch.setattr(autoattack, "code_of_names", lambda script, file=file, **used: {**code, file: "edited"})
        edited = autoattack.keys(["ours", "art"], [model], 200, parts)
        unedited = [name for name in edited if edited[name] == first[name]]
        assert unedited == (["ours", "art"] if same else ["art"])


def test_means_over_seeds_are_compared() -> None:
    counts = {"ours": [72, 72, 73], "art": [73, 72, 70]}
    rows = [
        row(attack=name, seed=seed, clean=195, left=left, seconds=2.0, key="")
        for name in counts
        for seed, left in enumerate(counts[name])
    ]
    table, targets = autoattack.summary(pd.DataFrame(rows))
    assert table["ours"].tolist() == ["72, 72, 73; mean 72.33; 2 s"]
    assert table["ours less art"].tolist() == ["+0.67"]
    assert [(target.value, target.met) for target in targets] == [(pytest.approx(2 / 3), True), (pytest.approx(-2 / 3), True)]
    assert "fewer" in targets[1].what


def test_the_summary_counts_the_targets_that_are_met(tmp_path: Path) -> None:
    known = {"conditions": {"device": "a machine", "threads": "2"}, "settings": {"batch": 8}}
    targets = [Target("seconds", np.float64(1.5), most=1.0), Target("images/s", 3.0, least=2.0)]
    report = Report("training", "Training", pd.DataFrame({"a": [1]}), {"": pd.DataFrame({"a": ["x"]})}, ["a note"], targets)
    assert "| seconds  | 1.5        | at most 1  | **not met** |" in write(report, tmp_path / "machine", known)
    found = json.loads((tmp_path / "machine" / "training.json").read_text())["targets"]
    assert [target["met"] for target in found] == [False, True]
    summary.write_summary(tmp_path)
    page = (tmp_path / "machine" / "README.md").read_text()
    assert page.startswith("# a machine\n\n1 of 2 targets met.")
    assert "[Training](training.md)" in page
    assert "3, at least 2: met" in (tmp_path / "README.md").read_text()


def test_repro_changes_one_method(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    before = load_params(ROOT / "params.yaml")
    repro.change_one_method(tmp_path)
    after = load_params(tmp_path / "params.yaml")
    assert [name for name in before.methods if before.methods[name] != after.methods[name]] == ["input_gradient"]
    assert before.model_copy(update={"methods": after.methods}) == after
    with pytest.raises(ValueError, match="name another change"):
        repro.change_one_method(tmp_path)


def test_models_are_trained_once(small: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "MODELS", tmp_path)
    options: dict[str, Any] = {"images": 64, "epochs": 1, "eps": 0.1, "batch_size": 64, "precision": "fp32", "source": "digits"}
    files = subjects.trained_models(load_params(), "resnet110", small, CPU, **options)
    assert list(files) == ["undefended", "pcl", "at"]
    made = {name: path.stat().st_mtime_ns for name, path in files.items()}
    again = subjects.trained_models(load_params(), "resnet110", small, CPU, **options)
    assert {name: path.stat().st_mtime_ns for name, path in again.items()} == made
    assert set(subjects.trained_models(load_params(), "resnet110", small, CPU, **{**options, "eps": 0.2})) == set(files)
    assert len(list(tmp_path.iterdir())) == 4  # only adversarial training depends on eps


def test_precisions_are_compared_over_seeds() -> None:
    found = {
        ("fp32", "fp32"): {"clean": (90.0, 92.0), "pgd_0.1": (50.0, 50.0)},
        ("fp32", "bf16"): {"clean": (90.0, 92.0), "pgd_0.1": (50.0, 53.0)},
        ("bf16", "bf16"): {"clean": (80.0, 82.0), "pgd_0.1": (50.0, 50.0)},
    }
    rows = [
        ("at", seed, training, attack, what, value)
        for (training, attack), values in found.items()
        for what, both in values.items()
        for seed, value in enumerate(both)
    ]
    table, targets = precision.summary(pd.DataFrame(rows, columns=["method", "seed", "training", "attack", "accuracy", "percent"]))
    assert table["fp32, %"].tolist() == ["91.00 ± 1.41", "50.00 ± 0.00"]
    assert table["bf16 less fp32"].tolist() == ["-10.00", "+0.00"]
    assert table["the attack alone"].tolist() == ["", "+1.50"]
    t = 10 / 2**0.5  # Welch: 10 / sqrt(2 / 2 + 2 / 2), 2 degrees of freedom
    assert targets[0].value == pytest.approx(2 * (1 - t / (2 + t * t) ** 0.5))
    assert not targets[0].met
    assert targets[1].value == 1.5
    assert not targets[1].met


def test_two_runs_of_an_attack_are_compared_image_by_image() -> None:
    """Of five images the first was misclassified before, the second and third are broken by both, the fourth by one."""
    run = pd.DataFrame({"correct": [False, False, False, False, True], "l2": [0.0, 1.0, 2.0, 3.0, 0.0]})
    paper = pd.DataFrame({"correct": [False, False, False, True, True], "l2": [0.0, 0.5, 1.0, 0.0, 0.0]})
    expected = {
        "images": 5,
        "accuracy_run": 20.0,
        "accuracy_paper": 40.0,
        "only_run": 1,
        "only_paper": 0,
        "l2_run": 1.5,
        "l2_paper": 0.75,
    }
    assert cw_steps.compared(run, paper) == expected
    assert cw_steps.compared(paper, run)["only_paper"] == 1


def test_a_defence_is_attacked_and_told(task: peers.Task) -> None:
    network, chosen = (
        task.model,
        argparse.Namespace(eps=0.1, seed=0, attack_batch=20, precision="fp32", steps=5, queries=50, images=40),
    )
    network.classes = 10
    found = defences.robustness(load_params(), network, task.x[:40], task.y[:40], chosen)
    expected = 100 * float((network(task.x[:40]).argmax(1) == task.y[:40]).double().mean())
    assert found["clean"] == pytest.approx(expected)
    assert 0 < found["autoattack"] <= found["pgd"] <= found["fgsm"] < expected
    row = {"method": "softmax_fs", "epochs": 1, "seconds": 2.0, "rate": 50.4, "share": 0.017, **found}
    table = defences.report(pd.DataFrame([row]), chosen).tables[""].iloc[0]
    assert (table["images/s"], table["share of the peak"], table["clean, %"]) == ("50", "1.7%", "100.0")


@pytest.mark.parametrize(("methods", "said"), [(["softmax_fs", "hpc"], "no hpc"), (["hcp"], "begin with softmax_fs")])
def test_defences_must_be_methods_and_begin_with_their_start(
    methods: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["defences", "--quick", "--device", "cpu", "--methods", *methods])
    with pytest.raises(ValueError, match=said):
        defences.main()


def test_the_first_images_are_taken(small: Splits) -> None:
    part = subjects.first_of(small, 5)
    assert len(part.train.images) == 5
    assert len(part.validation.images) == min(5, len(small.validation.images))
    assert len(part.test.images) == len(small.test.images)


def test_squares_leave_out_the_far_edges_where_the_libraries_do() -> None:
    x, generator = torch.zeros(400, 1, 5, 4), torch.Generator().manual_seed(0)
    places = autoattack._inner_window(x, 2, generator)
    assert {int(place) for place in places.flatten()} == {row * 4 + column for row in range(4) for column in range(3)}
    assert int(autoattack._inner_window(x, 4, generator).max()) == 15  # a square as wide as the image has one place
