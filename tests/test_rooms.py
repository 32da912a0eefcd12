"""The structure: which room may import which, and that an item depends on the code that it uses, and on no other."""

import ast
import re
import shutil
import subprocess
import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from pipeline.params.code import CARRIERS, LOOKUPS, OPTIONAL, import_graph, sources

PIPELINE = ROOT / "pipeline"
COMPUTING = {"data", "models", "losses", "attacks", "training", "evaluation"}
ROOMS = {  # room: what else of ours it may import; data flows one way
    "runtime": set(),
    "data": set(),
    "models": set(),
    "losses": set(),
    "attacks": {"losses"},
    "training": {"models", "losses", "attacks", "runtime"},
    "evaluation": {"models", "losses", "attacks", "runtime"},
    "reporting": {"evaluation", "runtime"},  # of the former signs.py alone: thresholds by which stage attack decides too; no torch
    "params": {"data", "models", "losses", "attacks", "runtime"},  # to check names and options, and to find the code behind a name
    "tracking": {"runtime", "reporting"},  # whose figures go into the runs
    "jobs": {*COMPUTING, "params", "runtime", "tracking"},
}
GRAPH = import_graph(ROOT)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = {room, *ROOMS[room]}
    for file in (PIPELINE / room).rglob("*.py"):
        used = {path.relative_to(PIPELINE).parts[0].removesuffix(".py") for path in GRAPH[file]} - {"__init__"}
        assert used <= allowed, f"{file.name} imports {used - allowed}"


def test_every_room_has_its_rule_and_no_file_lies_beside_them() -> None:
    assert {path.name for path in PIPELINE.iterdir() if path.name not in ("__pycache__", "__init__.py")} == set(ROOMS)


def test_params_reach_the_work_as_values() -> None:
    """Only params and what fills in items knows the shape of params.yaml."""
    for room in sorted(set(ROOMS) - {"params"}):
        for file in (PIPELINE / room).rglob("*.py"):
            used = {path.name for path in GRAPH[file] if path.is_relative_to(PIPELINE / "params")}
            allowed = (
                {
                    "__init__.py",
                    "items.py",
                    "choices.py",
                    "code.py",
                    "dataset.py",
                    "loader.py",
                    "measured.py",
                    "schema.py",
                    "sizes.py",
                    "values.py",
                    "resolve.py",
                    "lookups.py",
                }
                if room == "jobs"
                else set()
            )
            assert used <= allowed, f"{file} imports {used - allowed}"


def test_nothing_imports_a_stage() -> None:
    for file in PIPELINE.rglob("*.py"):
        assert not [path for path in GRAPH[file] if path.is_relative_to(ROOT / "stages")], file


def test_reporting_stages_do_without_torch() -> None:
    for name in ("tables", "figures", "cards", "report"):
        for file in sources(ROOT, name, [], GRAPH):
            if file.suffix != ".py":
                continue
            top = {node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)}
            modules = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
            modules |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
            assert not {module for module in modules if module.split(".")[0] in {"torch", "torchvision"}}, file


@pytest.mark.parametrize(
    "script", ["data", "train", "attack", "transfer", "planes", "cost", "tables", "figures", "cards", "report"]
)
def test_the_code_of_a_script_is_all_that_it_imports(script: str) -> None:
    excluded = [f"pipeline.{name.removesuffix('.py').replace('/', '.')}" for name in (*CARRIERS, *OPTIONAL)]
    finder = ModuleFinder([str(ROOT)], excludes=excluded)
    finder.run_script(str(ROOT / "stages" / f"{script}.py"))
    imported = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    lookups = {PIPELINE / name for name in LOOKUPS}
    named = {path for lookup in lookups & imported for path in GRAPH[lookup]} - lookups
    assert {file for file in sources(ROOT, script, named, GRAPH) if file.suffix == ".py"} == imported - lookups


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_lookup_file_holds_its_names_alone(lookup: str) -> None:
    """It counts for no item, so nothing that a result depends on may stand there."""
    for node in ast.parse((PIPELINE / lookup).read_text()).body:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.AnnAssign | ast.Expr), ast.dump(node)[:80]
    names = {node.target.id for node in ast.parse((PIPELINE / lookup).read_text()).body if isinstance(node, ast.AnnAssign)}
    module = "pipeline." + lookup.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    for file in PIPELINE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                assert {alias.name for alias in node.names} <= names, f"{file} imports more than the lookup from {module}"


def items(folder: Path) -> dict[str, str]:
    """Item files after `python -m stages.items` in a copy of the repository."""
    done = subprocess.run([sys.executable, "-m", "stages.items"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        path.relative_to(folder / "data/items").as_posix(): path.read_text() for path in (folder / "data/items").rglob("*.yaml")
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("repository")
    for room in ("pipeline", "stages"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    return folder, items(folder)


def methods_with_loss(before: dict[str, str], loss: str) -> set[str]:
    trained = {path: yaml.safe_load(text)["recipe"]["loss"] for path, text in before.items() if "/train/" in path}
    return {path.split("/")[2] for path, chosen in trained.items() if chosen and chosen["name"] == loss}


def changed(folder: Path, before: dict[str, str], file: str) -> set[str]:
    path = folder / file
    text = path.read_text()
    try:
        path.write_text(text + "\n")
        now = items(folder)
    finally:
        path.write_text(text)
    assert set(now) == set(before)
    return {name.removeprefix("digits/") for name in now if now[name] != before[name]}


@pytest.mark.parametrize(
    ("lookup", "file", "entry"),
    [
        ("losses/__init__.py", "losses/triplet.py", "Triplet"),
        ("attacks/__init__.py", "attacks/fgsm.py", "fgsm"),
        ("models/__init__.py", "models/conv6.py", "Conv6"),
        ("data/sources.py", "data/image_folders.py", "image_folder"),
    ],
)
def test_a_new_loss_attack_network_or_source_concerns_nothing_that_is_there(
    lookup: str, file: str, entry: str, repository: tuple[Path, dict[str, str]]
) -> None:
    """A copy of one that is there, under another name."""
    folder, before = repository
    new, names = folder / "pipeline" / file.replace(".py", "_too.py"), folder / "pipeline" / lookup
    text = names.read_text()
    try:
        shutil.copy(folder / "pipeline" / file, new)
        module = new.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
        more, added = re.subn(r"= \{\n", f'= {{\n    "{entry.lower()}_too": {entry}Too,\n', text)
        assert added == 1
        names.write_text(f"from {module} import {entry} as {entry}Too\n{more}")
        assert items(folder) == before
    finally:
        names.write_text(text)
        new.unlink()


def test_a_change_of_a_loss_concerns_the_methods_that_have_it(repository: tuple[Path, dict[str, str]]) -> None:
    folder, before = repository
    with_hcp = methods_with_loss(before, "hcp")
    assert {"hcp.yaml", "hcp_fs.yaml", "hcp_at.yaml", "hcp_m_p.yaml"} <= with_hcp
    concerned = changed(folder, before, "pipeline/losses/hcp.py")
    of_models = {f"{stage}/{name}" for stage in ("train", "attack") for name in with_hcp}
    assert concerned == of_models | {"transfer.yaml", "cost.yaml"}


@pytest.mark.parametrize(
    ("file", "concerned"),
    [
        ("pipeline/data/digits.py", {"data.yaml"}),
        ("pipeline/data/parquet_files.py", set()),
        ("pipeline/models/conv6.py", set()),
        ("pipeline/models/ensemble.py", {"train/adp.yaml", "attack/adp.yaml", "transfer.yaml"}),
        ("pipeline/training/awp.py", set()),
        ("pipeline/training/ema.py", set()),
        ("pipeline/attacks/fab.py", "attack"),
        ("pipeline/jobs/verdict.py", "attack"),
        ("pipeline/reporting/published.csv", {"tables.yaml", "figures.yaml", "cards.yaml", "report.yaml"}),
        ("pipeline/tracking/run.py", set()),
        ("pipeline/params/agreement.py", set()),
        ("stages/cost.py", {"cost.yaml"}),
        ("pipeline/losses/__init__.py", set()),
    ],
)
def test_a_change_of_code_concerns_the_items_that_use_it(
    file: str, concerned: set[str] | str, repository: tuple[Path, dict[str, str]]
) -> None:
    folder, before = repository
    wanted = {path.removeprefix("digits/") for path in before if "/attack/" in path} if concerned == "attack" else concerned
    assert changed(folder, before, file) == wanted


def test_code_on_prototypes_concerns_attacks_on_methods_that_have_them(repository: tuple[Path, dict[str, str]]) -> None:
    folder, before = repository
    concerned = changed(folder, before, "pipeline/jobs/prototypes.py")
    assert {"attack/hcp.yaml", "attack/pcl.yaml", "attack/center.yaml"} <= concerned
    assert not {"attack/softmax_fs.yaml", "attack/at.yaml", "attack/triplet.yaml"} & concerned
    assert all(name.startswith("attack/") for name in concerned)


def test_one_param_of_one_method_concerns_it_and_what_builds_on_it(repository: tuple[Path, dict[str, str]]) -> None:
    folder, before = repository
    text = (folder / "params.yaml").read_text()
    try:
        (folder / "params.yaml").write_text(text.replace("      e: 0.001\n", "      e: 0.002\n"))
        now = items(folder)
    finally:
        (folder / "params.yaml").write_text(text)
    assert {name for name in now if now[name] != before[name]} == {
        *(f"digits/train/{name}" for name in methods_with_loss(before, "hcp")),
        "digits/cost.yaml",
    }


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"items"}))
def test_a_stage_depends_on_its_items_file_and_on_no_params_or_code(stage: str) -> None:
    deps, script = STAGES[stage]["deps"], STAGES[stage]["cmd"].split("stages.")[1].split()[0]
    assert [dep for dep in deps if dep.startswith("data/items/")] == [dep for dep in deps if dep.startswith("data/items")]
    (own,) = [dep for dep in deps if dep.startswith("data/items/")]
    assert Path(own).parts[-1] == f"{script}.yaml" or Path(own).parts[-2] == script
    assert "params" not in STAGES[stage]
    assert not [dep for dep in deps if dep.startswith("${root}")]


def test_stage_scripts_are_short_and_files_are_not_long() -> None:
    for file in (ROOT / "stages").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 40, file
    for file in PIPELINE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file
