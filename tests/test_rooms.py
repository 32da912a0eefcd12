"""The structure: which room may import which, and that dvc.yaml lists what a stage's results follow from."""

import ast
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

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
# These carry params in, check them and carry logs out: DVC tracks the params themselves, and no result hangs on a check or a log.
NO_RESULTS = {"choices.py", "cli.py", "config.py", "consistency.py", "lookups.py", "tracking.py"}


def imports(path: Path) -> set[Path]:
    """Files of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            base = ROOT.joinpath(*name.split("."))
            found |= {
                file
                for file in (base.with_suffix(".py"), base / "__init__.py")
                if name.startswith(("pipeline", "stages")) and file.exists()
            }
    return {file for file in found if file.read_text().strip()}  # an empty __init__.py is nothing


def all_imports(path: Path) -> set[Path]:
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        new = imports(file) - seen if file.name != "lookups.py" else set()
        seen |= new
        todo += new
    return seen


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = {room, *ROOMS[room]}
    for file in (ROOT / "pipeline" / room).glob("*.py"):
        used = {path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py") for path in imports(file)}
        assert used <= allowed, f"{file.name} imports {used - allowed}"


def test_every_room_has_its_rule() -> None:
    assert {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


def test_nothing_imports_a_stage() -> None:
    for file in (ROOT / "pipeline").rglob("*.py"):
        assert not [path for path in imports(file) if "stages" in path.parts], file


def test_reporting_stages_do_without_torch() -> None:
    for name in ("tables", "figures", "report"):
        for file in all_imports(ROOT / "stages" / f"{name}.py"):
            top = {node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)}
            modules = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
            modules |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
            assert not {module for module in modules if module.split(".")[0] in {"torch", "torchvision"}}, file


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_lists_exactly_the_code_that_a_stage_imports(stage: str) -> None:
    script = ROOT / "stages" / f"{STAGES[stage]['cmd'].split('stages.')[1].split()[0]}.py"
    needed = {script, *all_imports(script)} - {ROOT / "pipeline" / name for name in NO_RESULTS}
    listed = [ROOT / dep.removeprefix("${root}/") for dep in STAGES[stage]["deps"] if dep.startswith("${root}/")]
    for file in needed - {ROOT / "pipeline/jobs/__init__.py"}:  # a docstring
        assert any(file == dep or dep in file.parents for dep in listed), f"{stage} imports {file.relative_to(ROOT)}, deps lack it"
    for dep in listed:
        assert any(file == dep or dep in file.parents for file in needed), (
            f"{stage} lists {dep.relative_to(ROOT)}, nothing imports it"
        )


def test_stage_scripts_are_short_and_files_are_not_long() -> None:
    for file in (ROOT / "stages").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 40, file
    for file in (ROOT / "pipeline").rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file
