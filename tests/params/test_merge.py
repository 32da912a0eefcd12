"""What params.yaml means: bases, extends, numbers, and the form in which DVC writes it."""

import difflib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import ParamsError, behind_names, explain, merge, merged, plain, read_tracking, tracking_or_none
from pipeline.params.schema import load_params

PROFILES = sorted(path.parent for path in ROOT.glob("profiles/*/params.yaml"))


def read(folder: Path, text: str) -> dict[str, Any]:
    (folder / "params.yaml").write_text(text)
    result: dict[str, Any] = plain(merged(folder / "params.yaml"))
    return result


def test_mappings_are_merged_and_lists_replaced(tmp_path: Path) -> None:
    found = read(tmp_path, "methods: {a: {x: {p: 1, q: 2}, l: [1, 2]}, b: {base: a, x: {q: 3}, l: [4]}, c: {base: b, y: null}}")
    assert found["methods"] == {
        "a": {"x": {"p": 1, "q": 2}, "l": [1, 2]},
        "b": {"x": {"p": 1, "q": 3}, "l": [4]},
        "c": {"x": {"p": 1, "q": 3}, "l": [4], "y": None},
    }


def test_another_name_takes_the_place_of_the_whole_mapping(tmp_path: Path) -> None:
    found = read(tmp_path, "methods: {a: {loss: {name: hcp, e: 1}}, b: {base: a, loss: {name: pcl, pull: 2}}}")
    assert found["methods"]["b"] == {"loss": {"name": "pcl", "pull": 2}}
    assert merge({"name": 1, "x": 2}, {"x": 3}) == {"name": 1, "x": 3}


def test_label_and_published_are_a_methods_own(tmp_path: Path) -> None:
    found = read(tmp_path, "methods: {a: {label: A, published: hcp, papers: [hcp]}, b: {base: a}}")
    assert found["methods"]["b"] == {"papers": ["hcp"]}


def test_a_data_set_that_builds_on_another_resolves_its_optimizers_anew(tmp_path: Path) -> None:
    first = "{training: {optimizers: {d: {lr: 1, clip: 5}, p: {base: d, clip: 2}}}}"
    text = f"datasets: {{a: {first}, b: {{base: a, training: {{optimizers: {{d: {{lr: 3}}}}}}}}}}"
    found = read(tmp_path, text)["datasets"]
    assert found["a"]["training"]["optimizers"] == {"d": {"lr": 1, "clip": 5}, "p": {"lr": 1, "clip": 2}}
    assert found["b"]["training"]["optimizers"] == {"d": {"lr": 3, "clip": 5}, "p": {"lr": 3, "clip": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-5),
        ("1e-3", 1e-3),
        ("1.0e-05", 1e-5),
        ("8/255", 8 / 255),
        ("-2E+2", -200.0),
        (".5e1", 5.0),
        ("'8/255'", "8/255"),
        ("1e", "1e"),
    ],
)
def test_numbers_are_read_as_they_are_meant(tmp_path: Path, text: str, value: object) -> None:
    assert read(tmp_path, f"x: {text}")["x"] == value
    assert read(tmp_path, f"x: {{y: [{text}]}}")["x"]["y"] == [value]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: {a: {base: b}}", "methods.a.base: unknown 'b', choose from"),
        ("methods: {a: {base: b}, b: {base: c}, c: {base: a}}", "circular, a -> b -> c -> a"),
        ("methods: {a: {base: a}}", "circular, a -> a"),
        ("a: &x {b: 1}\nc: *x", "line 1: anchors"),
        ("a: 1\nb: 2\na: 3", "line 3: a is there twice"),
        ("- a", "must hold a mapping"),
        ("extends: nowhere.yaml", "nowhere.yaml cannot be read"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_cannot_be_merged_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParamsError) as error:
        read(tmp_path, text)
    assert said in str(error.value)


def test_a_file_extends_another_once(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nmethods: {m: {v: 1}, n: {base: m}}")
    found = read(tmp_path, "extends: base.yaml\na: {y: 3}\nmethods: {m: {v: 5}}")
    assert found == {"a": {"x": 1, "y": 3}, "methods": {"m": {"v": 5}, "n": {"v": 5}}}
    (tmp_path / "second.yaml").write_text("extends: base.yaml")
    with pytest.raises(ParamsError, match="one step is allowed"):
        read(tmp_path, "extends: second.yaml")


def test_explain_names_the_line_of_each_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("methods:\n  a:\n    x: 1\n    loss: {name: hcp, e: 2}\n  b:\n    base: a\n    loss: {e: 3}\n")
    assert explain(merged()["methods"]["b"]) == [
        "x: 1   # params.yaml:3",
        "loss:",
        "  name: hcp   # params.yaml:4",
        "  e: 3   # params.yaml:7",
    ]


@pytest.mark.parametrize("folder", [ROOT, *PROFILES], ids=lambda path: path.name)
def test_params_are_written_as_dvc_writes_them(folder: Path, tmp_path: Path) -> None:
    """So one changed value is one changed line after `dvc exp run -S`."""
    from dvc.utils.hydra import apply_overrides

    copy = Path(shutil.copy(folder / "params.yaml", tmp_path))
    text = copy.read_text()
    apply_overrides(copy, [f"root={yaml.safe_load(text)['root']}"])
    assert copy.read_text() == text
    apply_overrides(copy, ["run.seeds=[7]"])
    assert len(set(copy.read_text().splitlines()) ^ set(text.splitlines())) <= 2


@pytest.mark.parametrize("folder", [ROOT, *PROFILES], ids=lambda path: path.name)
def test_with_two_plus_signs_what_is_inherited_is_changed_too(folder: Path, tmp_path: Path) -> None:
    """`dvc exp run -S ++...`, as the documentation has it: a value of this file is changed, another added; nothing else."""
    from dvc.utils.hydra import apply_overrides

    before = (folder / "params.yaml").read_text()
    (tmp_path / "a/b").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    copy = Path(shutil.copy(folder / "params.yaml", tmp_path / ("a/b" if folder != ROOT else "")))
    for name in ("hcp", "hcp_at"):  # in the root's params.yaml the second inherits it
        apply_overrides(copy, [f"++methods.{name}.loss.negative=0.25"])
    changed = [line for line in difflib.ndiff(before.splitlines(), copy.read_text().splitlines()) if line[0] == "-"]
    assert len(changed) <= 1
    methods = plain(merged(copy))["methods"]
    unchanged = plain(merged(folder / "params.yaml"))["methods"]
    assert [methods[name]["loss"]["negative"] for name in ("hcp", "hcp_at", "hcp_fs", "hcp_m_p")] == [0.25, 0.25, 0.25, 0.0]
    assert methods["pcl"] == unchanged["pcl"]
    load_params(copy, LOOKUPS)


@pytest.mark.parametrize("folder", PROFILES, ids=lambda path: path.name)
def test_a_profile_is_valid_short_and_has_the_dvc_files_of_the_root(folder: Path) -> None:
    params = load_params(folder / "params.yaml", LOOKUPS)
    assert params.root == "../.."
    assert params.tracking.experiment == folder.name
    text = (folder / "params.yaml").read_text()
    assert len(text.splitlines()) <= 80
    assert plain(merged(folder / "params.yaml"))["run"]["methods"] == params.run.methods
    assert yaml.safe_load(text)["extends"] == "../../params.yaml"
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()


def test_tracking_is_read_by_itself(tmp_path: Path) -> None:
    read(tmp_path, "tracking: {enabled: false, uri: u, experiment: e}")
    assert read_tracking(tmp_path / "params.yaml") == {"enabled": False, "uri": "u", "experiment": "e"}


def test_a_file_that_is_being_edited_turns_tracking_off_and_stops_no_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("tracking: {enabled: true, uri: '', experiment: mine}\nmethods: {hcp: {base: hpc}}\n")
    assert not tracking_or_none(path)["enabled"]
    assert "MLflow tracking off: methods.hcp.base: unknown 'hpc'" in capsys.readouterr().err
    path.write_text(path.read_text().replace("hpc", "softmax") + "  softmax: {label: SM}\n")
    assert not tracking_or_none(path)["enabled"]  # cut off in the middle of a mapping
    path.write_text("tracking: {enabled: true, uri: '', experiment: mine}\n")
    assert tracking_or_none(path) == {"enabled": True, "uri": "", "experiment": "mine"}


def test_a_name_that_a_data_set_lacks_is_said(tmp_path: Path) -> None:
    training = "{batch_size: 8, epochs: {train: 3}, optimizers: {}, adversary_eps: {}}"
    (tmp_path / "params.yaml").write_text(
        "methods: {a: {network: big, epochs: train}}\n"
        f"datasets: {{d: {{networks: {{main: {{name: conv6}}}}, training: {training}}}}}"
    )
    tree = merged(tmp_path / "params.yaml")
    found = behind_names(tree["methods"]["a"], tree["datasets"]["d"])
    assert explain(found)[:2] == ["networks:", f"  big: not in this data set   # {os.path.relpath(tmp_path)}/params.yaml:1"]
