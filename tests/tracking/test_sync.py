"""What is recorded from record files afterwards."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tracked import SETTINGS, attack, client, content, in_shared_folder, runs, train  # noqa: F401

from pipeline.tracking import store as store_module
from pipeline.tracking.run import sync, track
from pipeline.tracking.store import Store, store_uri
from stages.sync import main as sync_script


def test_sync_makes_the_runs_that_live_tracking_makes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = train("synced/at/0", "t15", below=tmp_path), attack("synced/at/0", "a15", "t15", below=tmp_path)
    (live,) = runs("synced/at/0")
    assert sync(SETTINGS, tmp_path) == 0
    client().set_tag(live.info.run_id, "key", "another")  # to the eye of the store it was never there
    os.utime(files[1], (1_600_000_000,) * 2)  # an attack older than the training: as in a cache
    assert sync(SETTINGS, tmp_path) == 2
    assert [str(path) in line for path, line in zip(files, capfd.readouterr().out.splitlines(), strict=True)] == [True, True]
    (synced,) = [run for run in runs("synced/at/0") if run.info.run_id != live.info.run_id]
    made, expected = content(synced), content(live)
    assert {**made, "tags": {**made["tags"], "superseded_by": None}} == {
        **expected,
        "tags": {**expected["tags"], "superseded_by": None},
    }
    assert synced.info.start_time == int(files[0].stat().st_mtime * 1000)
    assert sync(SETTINGS, tmp_path) == 0
    assert content(client().get_run(synced.info.run_id)) == made


def test_sync_brings_artifacts_and_leaves_what_the_user_deleted() -> None:
    Path("models/artifacts").mkdir(parents=True)
    Path("models/artifacts/0.csv").write_text("x")
    about: dict[str, Any] = {
        "model": "artifacts",
        "key": "t16",
        "params": {},
        "tags": {},
        "record": Path("models/artifacts/0.json"),
    }
    with track(SETTINGS._replace(enabled=False), **about) as run:
        run.artifact(Path("models/artifacts/0.csv"))
    sync(SETTINGS, Path())
    (found,) = runs("artifacts")
    assert content(found)["artifacts"] == ["0.csv"]
    client().delete_run(found.info.run_id)
    assert sync(SETTINGS, Path()) == 0


def test_a_training_recorded_late_does_not_supersede_a_newer_one(tmp_path: Path) -> None:
    record = train("late/at/0", "old16", below=tmp_path, settings=SETTINGS._replace(enabled=False))
    os.utime(record, (1_600_000_000,) * 2)
    train("late/at/0", "new16")
    sync(SETTINGS, tmp_path)
    new, old = runs("late/at/0")
    assert (old.data.tags["key"], old.data.tags["superseded_by"]) == ("old16", new.info.run_id)
    assert "superseded_by" not in new.data.tags


def test_a_file_that_is_no_record_is_named_and_skipped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train("good/at/0", "t17", below=tmp_path)
    for name, text in {"a": "{", "b": "[]", "c": "{}", "d": '{"trained": null}'}.items():
        (tmp_path / "models" / f"{name}.json").write_text(text)
    assert sync(SETTINGS, tmp_path) == 0
    assert sorted(line[-6:] for line in capfd.readouterr().err.splitlines()) == ["a.json", "b.json", "c.json", "d.json"]


def test_a_record_that_the_store_refuses_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    untracked = SETTINGS._replace(enabled=False)
    for number in range(5):
        os.utime(train(f"refused/at/{number}", f"t19-{number}", below=tmp_path, settings=untracked), (1_600_000_000 + number,) * 2)
    add_params = store_module.StoredRun.add_params
    broken = {f"refused/at/{number}" for number in range(5)}

    def refuse(stored: Any) -> None:
        if stored.record["model"] in broken:
            raise OSError("refused")
        add_params(stored)

    monkeypatch.setattr(store_module.StoredRun, "add_params", refuse)
    for expected in ([0, 1, 2], [0]):  # after the third it is the store
        with pytest.raises(ValueError, match="does not have all runs"):
            sync(SETTINGS, tmp_path)
        files = [f"{tmp_path}/models/refused/at/{number}.json" for number in expected]
        assert capfd.readouterr().err.splitlines() == [f"not recorded in MLflow: {file} (OSError: refused)" for file in files]
        broken = {"refused/at/0"}
    broken = set()
    assert sync(SETTINGS, tmp_path) == 1
    found = [run for number in range(5) for run in runs(f"refused/at/{number}")]
    assert [(run.info.status, run.data.params["seed"]) for run in found] == [("FINISHED", "0")] * 5


def test_the_sync_script_names_what_it_has_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    train("script/at/0", "t22", below=tmp_path, settings=SETTINGS._replace(enabled=False))
    (tmp_path / "params.yaml").write_text(f"tracking: {{enabled: true, uri: '{store_uri('')}', experiment: digits}}\n")
    monkeypatch.chdir(tmp_path)
    for arguments, count in (["."], 1), ([], 0):
        monkeypatch.setattr(sys, "argv", ["sync", *arguments])
        sync_script()
        assert capsys.readouterr().out.splitlines()[-1] == f"{count} runs recorded"
    monkeypatch.setattr(sys, "argv", ["sync", "nowhere"])
    with pytest.raises(SystemExit):
        sync_script()
    assert capsys.readouterr().err.startswith("error: nowhere is not a folder")
    (tmp_path / "params.yaml").write_text("tracking: {enabled: false, uri: '', experiment: digits}\n")
    monkeypatch.setattr(sys, "argv", ["sync"])
    with pytest.raises(SystemExit):
        sync_script()
    assert capsys.readouterr().err.startswith("error: tracking.enabled is false in params.yaml")


def test_a_store_with_more_runs_than_a_page_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("paged/at/0", "t18", below=tmp_path)
    for number in range(4):  # newer ones, so that it is not on the first page
        train(f"paged/at/{number + 1}", f"t18-{number}")
    store = Store(SETTINGS)
    count = len(store.runs())
    assert count > 3
    monkeypatch.setattr(store_module, "PAGE", 3)
    assert len({run.info.run_id for run in store.runs()}) == count
    assert sync(SETTINGS, tmp_path) == 0
