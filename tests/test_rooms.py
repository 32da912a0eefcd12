"""The structure: which room may import which, and that every stage depends on the code that its results follow from."""

import ast
import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from pipeline.params.code import NO_RESULTS, import_graph, sources
from stages.code import main as write_code

ROOMS = {  # room: what else of ours it may import; data flows one way
    "data": set(),
    "models": set(),
    "losses": set(),
    "attacks": {"losses"},
    "training": {"models", "losses", "attacks", "checkpoint", "distributed", "files"},
    "evaluation": {"models", "losses", "attacks", "distributed"},
    "reporting": set(),
    "jobs": {
        "attacks",
        "checkpoint",
        "choices",
        "config",
        "data",
        "device",
        "distributed",
        "evaluation",
        "files",
        "losses",
        "models",
        "tracking",
        "training",
    },
}
GRAPH = import_graph(ROOT)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = {room, *ROOMS[room]}
    for file in (ROOT / "pipeline" / room).glob("*.py"):
        used = {path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py") for path in GRAPH[file]} - {"__init__"}
        assert used <= allowed, f"{file.name} imports {used - allowed}"


def test_every_room_has_its_rule() -> None:
    assert {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


def test_nothing_imports_a_stage() -> None:
    for file in (ROOT / "pipeline").rglob("*.py"):
        assert not [path for path in GRAPH[file] if path.is_relative_to(ROOT / "stages")], file


def test_reporting_stages_do_without_torch() -> None:
    for name in ("tables", "figures", "cards", "report"):
        for file in sources(ROOT / "stages" / f"{name}.py", GRAPH):
            if file.suffix != ".py":
                continue
            top = {node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)}
            modules = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
            modules |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
            assert not {module for module in modules if module.split(".")[0] in {"torch", "torchvision"}}, file


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_checksums_of_its_script_and_those_on_all_code(stage: str) -> None:
    script = STAGES[stage]["cmd"].split("stages.")[1].split()[0]
    code = ["${root}/pipeline", "${root}/stages"] if stage == "code" else [f"metrics/code/{script}.sha256"]
    assert [dep for dep in STAGES[stage]["deps"] if dep.startswith(("${root}", "metrics/code"))] == code


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_checksums_are_those_of_exactly_the_code_that_a_script_imports(script: str) -> None:
    finder = ModuleFinder([str(ROOT)], excludes=[f"pipeline.{name.removesuffix('.py')}" for name in NO_RESULTS])
    finder.run_script(str(ROOT / "stages" / f"{script}.py"))
    found = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    assert {file for file in sources(ROOT / "stages" / f"{script}.py", GRAPH) if file.suffix == ".py"} == found


@pytest.mark.parametrize(
    ("changed", "concerned"),
    [
        ("pipeline/losses/hcp.py", ["attack", "cost", "planes", "train", "transfer"]),
        ("pipeline/jobs/verdict.py", ["attack"]),
        ("pipeline/data/digits.py", ["data"]),
        ("pipeline/reporting/cards.py", ["cards"]),
        ("pipeline/reporting/published.csv", ["cards", "figures", "report", "tables"]),
        ("pipeline/tracking.py", []),
        ("stages/train.py", ["train"]),
        ("stages/__init__.py", []),
    ],
)
def test_a_change_of_code_concerns_the_stages_that_import_it(
    changed: str, concerned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("pipeline", "stages"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.code.__file__", str(tmp_path / "stages/code.py"))
    write_code()
    before = {path.stem: path.read_text() for path in Path("metrics/code").iterdir()}
    with Path(changed).open("a") as file:
        file.write("\n")
    write_code()
    assert sorted(before) == SCRIPTS
    assert [name for name in SCRIPTS if Path(f"metrics/code/{name}.sha256").read_text() != before[name]] == concerned


def test_stage_scripts_are_short_and_files_are_not_long() -> None:
    for file in (ROOT / "stages").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 40, file
    for file in (ROOT / "pipeline").rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file
