"""A model's figures, words and card in its run: from the records, and from what the report says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_run import made_item, make_run
from tracked import SETTINGS, in_shared_folder  # noqa: F401

from pipeline.reporting.run import run_from
from pipeline.reporting.write import write_tables
from pipeline.tracking.entries import data_digests
from pipeline.tracking.figures import description, headline
from pipeline.tracking.results import sync_all
from pipeline.tracking.store import Store

RECIPE = {
    "init": "softmax",
    "cross_entropy": 1.0,
    "layers": ["fc1", "fc2"],
    "loss": {"name": "hcp", "e": 0.001},
    "auxiliary": [],
    "input_gradient": 0.0,
    "trades": 0.0,
    "network": {"name": "small_cnn"},
    "epochs": 20,
    "given": None,
    "adversary": {"attack": {"name": "pgd"}, "eps": [0.05, 0.25]},
}


def test_headline_figures_are_those_at_the_strength_of_autoattack() -> None:
    metrics = {"accuracy/clean": 98.0, "accuracy/fgsm_0.1": 1.0, "accuracy/fgsm_0.15": 51.234, "accuracy/pgd_0.15": 40.0}
    metrics |= {"accuracy/autoattack_0.15": 37.0, "accuracy/adaptive_0.15": 36.0, "accuracy/adaptive/ce_0.15": 12.0}
    metrics |= {"accuracy/autoattack_l2_0.6": 5.0, "accuracy/adaptive_fgsm_0.15": 9.0, "check/fgsm_0.15": 0.0}
    expected = {"clean": 98.0, "paper_attack": 40.0, "adaptive": 36.0, "autoattack": 37.0, "robust": 36.0}
    assert headline(metrics) == expected
    assert headline({name: value for name, value in metrics.items() if "autoattack" not in name}) == {}


def test_a_model_in_words() -> None:
    params = {"dataset": "digits", "method": "hcp_at", "seed": 0, "recipe": RECIPE}
    start = "hcp_at on digits, seed 0: small_cnn, 20 epochs from the softmax model. Loss: cross entropy, hcp on fc1, fc2."
    assert description(params) == f"{start} Adversarial training: pgd, eps 0.05 to 0.25."
    plain = {**RECIPE, "adversary": None, "loss": None, "init": "random", "epochs": 1}
    expected = "hcp_at on digits, seed 0: small_cnn, 1 epoch from random weights. Loss: cross entropy."
    assert description({**params, "recipe": plain}) == expected
    assert (
        description({**params, "recipe": {**RECIPE, "given": {"code": "x.py"}}})
        == "hcp_at on digits, seed 0: a model from elsewhere."
    )
    assert description({"seed": 0}) == ""


def write_records(folder: Path, item: dict[str, Any]) -> None:
    """models/ and run.json as the stages train and attack leave them."""
    for method in item["methods"]:
        about = {"model": f"digits/{method}/0", "curves": [], "artifacts": []}
        params = {"dataset": "digits", "method": method, "seed": 0, "recipe": RECIPE}
        tags = {"dataset": "digits", "method": method, "seed": "0"}
        train = {
            **about,
            "key": f"t-{method}",
            "trained": None,
            "params": params,
            "tags": {**tags, "stage": "train"},
            "metrics": {},
        }
        path = folder / "data/attacks/digits" / method / "0/run.json"
        own = {"key": f"a-{method}", "trained": f"t-{method}", "params": {}, "tags": {**tags, "stage": "attack"}}
        path.write_text(json.dumps({**about, **own, "metrics": json.loads(path.read_text())["metrics"]}))
        model = folder / "models/digits" / method / "0.json"
        model.parent.mkdir(parents=True)
        model.write_text(json.dumps(train))
        model.with_suffix(".pt").write_bytes(b"weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with its tables, and a report and pictures of a line each."""
    item = made_item(("softmax_fs", "at", "hcp"), transfer=["vgg"])
    make_run(tmp_path, 60, item)
    write_tables(run_from(item), tmp_path / "data", tmp_path / "metrics")
    write_records(tmp_path, item)
    lock: dict[str, Any] = {"stages": {}}
    for method in item["methods"]:
        deps, outs = (
            [{"path": "data/digits.npz", "md5": "0123456789abcdef"}],
            [{"path": f"models/digits/{method}/0.json", "md5": ""}],
        )
        lock["stages"][f"finetune@digits-{method}-0"] = {"deps": deps, "outs": outs}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    cards = [f'<a id="card-digits-{name}"></a>\n<details>{name}\n</details>\n' for name in item["methods"]]
    (tmp_path / "metrics/report.md").write_text("\n".join(["# Report", *cards]))
    (tmp_path / "metrics/cards/digits").mkdir(parents=True)
    (tmp_path / "metrics/cards/digits/at.png").write_bytes(b"picture")
    return tmp_path


def test_what_the_report_says_is_in_the_run_of_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS._replace(experiment="reported")
    store = Store(settings)
    summary = json.loads((folder / "metrics/summary.json").read_text())["digits"]
    (folder / "metrics/summary.json").rename(folder / "summary.json")
    assert sync_all(settings, folder) == 6
    before = {run.info.run_name: run.data.metrics["robust"] for run in store.runs()}
    assert before["digits/at/0"] == 55.0  # AutoAttack leaves 33 of 60
    (folder / "summary.json").rename(folder / "metrics/summary.json")
    assert sync_all(settings, folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "recorded in MLflow: what the report says of 3 models"
    runs = {run.info.run_name: run for run in store.runs()}
    assert set(runs) == {"digits/softmax_fs/0", "digits/at/0", "digits/hcp/0"}
    for method, figures in summary.items():
        run = runs[f"digits/{method}/0"]
        expected = {"paper_attack" if name == "paper" else name: value for name, value in figures.items()}
        assert {name: run.data.metrics[name] for name in expected} == pytest.approx(expected, abs=0.006)
        (model,) = run.outputs.model_outputs
        logged = store.client.get_logged_model(model.model_id)
        assert {metric.key: metric.value for metric in logged.metrics}.keys() == expected.keys()
        assert logged.tags["file"] == f"models/digits/{method}/0.pt"
        assert logged.tags["verdict"] == run.data.tags["verdict"]
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("digits", "01234567")
        assert run.data.tags["mlflow.note.content"].startswith(f"{method} on digits, seed 0: small_cnn, 20 epochs")
    assert runs["digits/at/0"].data.metrics["robust"] < 55.0  # with images made on other models
    assert len({run.data.tags["repro"] for run in runs.values()}) == 1
    paths = {file.path for file in store.client.list_artifacts(runs["digits/at/0"].info.run_id, "card")}
    assert paths == {"card/at.png", "card/card.md"}
    shown = runs["digits/at/0"].info.run_id
    store.client.set_tag(shown, "superseded_by", "another")  # as after a training with params that are no longer there
    store.client.set_tag(shown, "key.report", "old")
    other = store.client.create_run(store.experiment_id, tags={"model": "digits/at/0", "key": "other", "key.attack": "a"})
    begun = store.client.create_run(store.experiment_id, tags={"model": "digits/at/0", "key": "of a training"})
    assert sync_all(settings, folder) == 0
    capsys.readouterr()
    marks = {run.info.run_id: run.data.tags.get("superseded_by") for run in store.runs()}
    assert (marks[shown], marks[other.info.run_id], marks[begun.info.run_id]) == (None, shown, None)
    shutil.rmtree(folder / "data/verdict")  # which is not read again
    assert sync_all(settings, folder) == 0
    assert capsys.readouterr() == ("", "")


def test_a_report_of_other_results_is_not_taken_for_one_of_these(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS._replace(experiment="other results")
    summary = json.loads((folder / "metrics/summary.json").read_text())
    summary["digits"]["at"]["autoattack"] += 1
    (folder / "metrics/summary.json").write_text(json.dumps(summary))
    assert sync_all(settings, folder) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert "has autoattack of digits at from other results; run `dvc repro`" in line
    assert not any("verdict" in run.data.tags for run in Store(settings).runs())


def test_a_folder_without_dvc_has_no_digests(tmp_path: Path) -> None:
    assert data_digests(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    assert data_digests(tmp_path) == {}
