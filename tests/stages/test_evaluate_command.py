"""`python -m stages.evaluate` as somebody uses it who has a model and has never seen this project."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch import nn

from pipeline.data.digits import sklearn_digits
from pipeline.jobs.evaluate_command import _options
from stages.evaluate import main

MODEL = """
from torch import nn

def net(classes=10, softmax=False):
    layers = [nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, classes)]
    return nn.Sequential(*layers, *([nn.Softmax(1)] if softmax else []))
"""
QUICK = """
extends: {root}/params.yaml
autoattack:
  quick:
    apgd_ce: {{name: apgd, steps: 5, restarts: 1}}
    square: {{name: square, queries: 20, p_init: 0.8}}
verdict: {{adaptive: {{steps: 3, restarts: 1, targets: 2}}, follow_up: {{queries: 20, draws: 2, steps: 3}}, steps: [1, 3]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ten lines, weights from a plain training loop, digits as an .npz, and what goes wrong."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "model.py").write_text(MODEL)
    (folder / "quick.yaml").write_text(QUICK.format(root=ROOT))
    train, test, classes = sklearn_digits(test_fraction=0.2, seed=0)
    np.savez(folder / "digits.npz", images=test.images, labels=test.labels, classes=classes)
    x, y = torch.from_numpy(train.images).float() / 255, torch.from_numpy(train.labels)
    for name, shown in {"plain": x, "normalised": 2 * x - 1}.items():
        space: dict[str, object] = {}
        exec(MODEL, space)
        torch.manual_seed(0)
        model: nn.Module = space["net"]()  # type: ignore[operator]
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(shown), y).backward()
            optimizer.step()
        torch.save(model.state_dict(), folder / f"{name}.pt")
    state = torch.load(folder / "plain.pt", weights_only=True)
    torch.save({f"body.{name}" if "0" in name else name: value for name, value in state.items()}, folder / "names.pt")
    (folder / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    (folder / "cut.pt").write_bytes((folder / "plain.pt").read_bytes()[:3000])
    order = torch.tensor([3, 0, 1, 2, 4, 5, 6, 7, 8, 9])
    torch.save({**state, "3.weight": state["3.weight"][order], "3.bias": state["3.bias"][order]}, folder / "order.pt")
    return folder


def command(folder: Path, *more: str) -> list[str]:
    usual = ["--model", "model.py:net", "--weights", "plain.pt", "--data", "digits.npz", "--eps", "8/255", "--images", "20"]
    return [*usual, "--autoattack", "quick", "--params", "quick.yaml", "--device", "cpu", "--threads", "1", "--no-tracking", *more]


def said(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    try:
        main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


def test_a_model_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(command(folder, "--out", "result"), folder, monkeypatch, capsys)
    assert status == 0
    result = folder / "result"
    assert f"{Path('result', 'report.html')}" in out
    assert {path.name for path in result.iterdir()} == {
        *("outcomes.parquet", "checks.json", "examples.npz", "features.npz", "run.json", "report.md", "report.html", "cards"),
    }
    content = json.loads((result / "checks.json").read_text())
    outcomes = pd.read_parquet(result / "outcomes.parquet")
    for name in ("clean", "autoattack", "adaptive"):
        rows = outcomes[outcomes.attack == name]
        shown = f"accuracy/{name}" + ("" if name == "clean" else f"_{8 / 255:g}")
        assert content["accuracy"][shown] == pytest.approx(100 * rows.correct.mean())
        assert len(rows) == 20
    for file in ("report.md", "report.html"):
        text = (result / file).read_text()
        for part in ("net-plain: what holds under attack", "What was seen beforehand", "What each attack broke", "How it was made"):
            assert part in text


def test_a_verdict_does_not_take_the_place_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = command(folder, "--images", "4")
    assert said(first, folder, monkeypatch, capsys)[0] == 0
    assert (folder / "judged/net-plain-digits-linf-0.03137-quick-4-images/checks.json").is_file()
    assert said(first, folder, monkeypatch, capsys)[0] == 0  # the same again
    other = [*first, "--mean", "0.1", "--std", "1", "--force"]
    assert said(other, folder, monkeypatch, capsys)[0] == 0
    assert said(other, folder, monkeypatch, capsys)[0] == 0
    places = sorted(path.name for path in (folder / "judged").iterdir())
    assert places == ["net-plain-digits-linf-0.03137-quick-4-images", "net-plain-digits-linf-0.03137-quick-4-images-2"]
    found = [json.loads((folder / "judged" / place / "checks.json").read_text())["about"]["mean"] for place in places]
    assert found == [None, [0.1]]
    status, _, err = said([*other, "--out", f"judged/{places[0]}"], folder, monkeypatch, capsys)
    assert (status, "has a verdict on something else, or by other attacks: name another --out, or remove it" in err) == (2, True)
    assert (
        said([*first, "--weights", "./plain.pt", "--name", "mine", "--out", f"judged/{places[0]}"], folder, monkeypatch, capsys)[0]
        == 0
    )


def test_a_folder_is_taken_by_a_run_that_was_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that the function loads itself are in no argument."""
    (folder / "own.py").write_text(
        f"import torch\n{MODEL}\ndef own():\n    model = net()\n    model.load_state_dict(torch.load('own.pt'))\n    return model"
    )
    arguments = [*command(folder, "--images", "4", "--force")[4:], "--model", "own.py:own"]
    for weights in ("plain.pt", "order.pt"):
        (folder / "own.pt").write_bytes((folder / weights).read_bytes())
        assert said(arguments, folder, monkeypatch, capsys)[0] == 0
    begun = folder / "judged/own-digits-linf-0.03137-quick-4-images-3/.unfinished/another"
    begun.mkdir(parents=True)
    (folder / "own.pt").write_bytes((folder / "normalised.pt").read_bytes())
    assert said(arguments, folder, monkeypatch, capsys)[0] == 0
    places = sorted(path.name.rpartition("-")[2] for path in (folder / "judged").glob("own-*"))
    assert places == ["2", "3", "4", "images"]
    assert begun.exists()


def test_options_are_numbers_as_in_params_yaml() -> None:
    found = _options(["eps=1e-3", "p=8/255", "rate=1e5", "name=a1", "flag=true", "none=null"], "--options")
    assert found == {"eps": 1e-3, "p": 8 / 255, "rate": 1e5, "name": "a1", "flag": True, "none": None}


WRONG: dict[str, tuple[list[str], str]] = {
    "class count": (["--options", "classes=7", "--weights", "plain.pt"], "2 of another shape: 3.weight 10x256 in the file"),
    "class count, no weights": (["--options", "classes=7", "NOWEIGHTS"], "the model has 7 classes, the data 10: build it with 10"),
    "normalised": (["--weights", "normalised.pt"], "normalised by.*give it --mean .* --std"),
    "probabilities": (["--options", "softmax=true"], "returns probabilities.*remove the final softmax"),
    "a folder": (["--weights", "."], r"\. is a folder, name a file of weights: cut\.pt, names\.pt"),
    "cut off": (["--weights", "cut.pt"], r"cut\.pt is cut off, damaged.*fetch it again"),
    "names": (["--weights", "names.pt"], r"2 missing: 0\.weight, 0\.bias; 2 unexpected: body\.0\.weight"),
    "pointer": (["--weights", "pointer.pt"], "a Git LFS pointer instead of the file"),
    "order": (["--weights", "order.pt"], "classes are in another order.*renumber the labels"),
    "data": (["--data", "nowhere.npz"], "there is no such .npz or folder, and it is none of digits, mnist"),
    "colour": (["--model", "torchvision.models:resnet18", "NOWEIGHTS"], "the model fails on 2 images of 1x8x8"),
    "eps": (["--eps", "8"], "eps must be below 1 in l-inf"),
    "images": (["--images", "-3"], "--images must be a whole number from 1 on or all"),
    "options": (["--options", "classes"], "options are written NAME=VALUE"),
    "no number": (["--options", "classes=8/0"], "has no value that YAML can read"),
    "seed": (["--seed", "-1"], r"seed must be a whole number from 0 on, below 2\^32, got -1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_one_line_that_says_what_to_do(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, message = WRONG[kind]
    arguments = command(folder, *[word for word in changed if word != "NOWEIGHTS"], "--out", "wrong")
    if "NOWEIGHTS" in changed:
        del arguments[arguments.index("--weights") : arguments.index("--weights") + 2]
    status, _, err = said(arguments, folder, monkeypatch, capsys)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert "Traceback" not in err
    assert "weights_only" not in err


def test_a_killed_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed in Square; what APGD made is there, and the outcomes are those of a run that was not killed."""
    from pipeline.attacks import ATTACKS
    from pipeline.attacks.square import square

    assert said(command(folder, "--out", "whole"), folder, monkeypatch, capsys)[0] == 0

    @functools.wraps(square)
    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(ATTACKS, "square", killed)
        assert said(command(folder, "--out", "killed"), folder, monkeypatch, capsys)[0] == 130
    kept = list((folder / "killed/.unfinished").rglob("*"))
    assert any("apgd_ce" in path.name for path in kept)
    assert ATTACKS["square"] is square
    assert said(command(folder, "--out", "killed"), folder, monkeypatch, capsys)[0] == 0
    one, other = (pd.read_parquet(folder / name / "outcomes.parquet") for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(one, other)
    assert not (folder / "killed/.unfinished").exists()


def test_in_mlflow_where_it_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{folder / 'store.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    arguments = [word for word in command(folder, "--out", "tracked", "--images", "4") if word != "--no-tracking"]
    assert said(arguments, folder, monkeypatch, capsys)[0] == 0
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("judged").experiment_id])
    assert run.data.params["eps"] == str(8 / 255)
    assert run.data.metrics["accuracy/clean"] >= 50


@pytest.mark.slow
def test_the_documented_example_in_an_environment_of_its_own(folder: Path, tmp_path: Path) -> None:
    """pip install, without DVC and MLflow; the console command and the ten lines of the documentation, away from the checkout."""
    text = (ROOT / "docs/judging.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 12
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT)], check=True, env=clean, cwd=tmp_path)
    found = subprocess.run([python, "-c", "import dvc"], capture_output=True, check=False, env=clean)
    assert found.returncode != 0
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run([python, "example.py"], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    usual = ["--data", str(folder / "digits.npz"), "--eps", "8/255", "--images", "20", "--autoattack", "rapid"]
    given = ["--model", f"{folder / 'model.py'}:net", "--weights", str(folder / "plain.pt"), "--out", "out"]
    script = str(tmp_path / "venv/bin/judge-defence")
    done = subprocess.run([script, *usual, *given], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").is_file()
