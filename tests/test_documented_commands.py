"""Every command and code block of README.md and docs/, read from the text: cheap commands are run, the rest reach the parser of the
program that they call, so that a renamed option, target or stage fails here. A block that no rule covers fails too.

Run elsewhere: the new loss and the given model (test_pipeline.py), the notebook (stages/test_evaluate_command.py, --slow),
`dvc exp run -S` and what follows it (test_pipeline.py), torchrun (runtime/test_distributed.py)."""

import argparse
import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from documented import BLOCKS, Block, commands, is_command
from dvc.cli import DvcParserError
from dvc.cli import parse_args as parse_dvc
from dvc.repo import Repo
from pip._internal.commands import create_command
from torch.distributed.run import get_args_parser

from pipeline.params.choices import SourceChoice
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
# Stands for python, dvc, ... below make: writes down how it was called. dvc has something to do; group.py starts what it is given.
STUB = """#!/bin/sh
{ printf '%s\\037' "${0##*/}" "$@"; echo; } >> "$CALLS"
case "$1" in
    *group.py) shift; exec "$@";;
    -c) exit 0;;
esac
case "$*" in *"status -q") exit 1;; esac
"""


class Parsed(BaseException):
    """The parser has taken the arguments; nothing more is to happen."""


def check_module(module: str, *arguments: str) -> None:
    """`python -m MODULE ...`, up to the end of its own parse_args."""
    if module == "benchmarks":  # whose parser takes any name
        assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in arguments if not name.startswith("-"))
    original = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *given: object) -> None:
        original(self, *given)  # type: ignore[call-overload]
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of runpy, where the module is imported already
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises((Parsed, SystemExit)) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.type is Parsed or ended.value.code == 0, f"python -m {module} {' '.join(arguments)}"  # 0: --help


def check_torchrun(*arguments: str) -> None:
    options = get_args_parser().parse_args(arguments)
    assert options.module
    check_module(options.training_script, *options.training_script_args)


def check_launch(words: list[str]) -> None:
    """What PIPELINE_LAUNCH says: to it, `-m stages.train ...` is added."""
    if words[0] == "srun":  # not installed where the tests run: its options have a number each
        words = re.sub(r"^srun( --[a-z-]+ \d+)+ ", "", " ".join(words)).split()
    if words[0] == "torchrun":
        check_torchrun(*words[1:], "-m", "stages.train", "digits", "madry", "0")
    else:
        assert words in (["python"], ["./place"], ["$PWD/place"])  # of the top folder


@pytest.fixture(scope="module")
def stages() -> set[str]:
    """All that `dvc repro` can be asked for."""
    names = {stage.addressing for stage in Repo(str(ROOT)).index.stages}
    return names | {name.split("@")[0] for name in names}


def check_dvc(words: list[str], stages: set[str]) -> None:
    options = parse_dvc(words)
    targets = {name for name in getattr(options, "targets", None) or [] if name == name.lower()}  # STAGE is any
    assert targets <= stages, f"dvc {' '.join(words)}"


def check_pip(command: str, *arguments: str) -> None:
    create_command(command).parse_args(list(arguments))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with the Makefile, in which the programs that it calls are STUB."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for profile in (ROOT / "profiles").iterdir():
        (tmp_path / "profiles" / profile.name).mkdir(parents=True)
    for name in ("bin/python", "bin/dvc", "bin/pip", "bin/uv", "bin/ruff", "bin/mypy", "lowest/bin/python"):
        program = tmp_path / ".venv" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STUB)
        program.chmod(0o755)
    return tmp_path


def check_make(words: list[str], folder: Path, stages: set[str]) -> str:
    """Runs make with stubs, and checks what it has called. Returns what it printed."""
    makefile, calls = (folder / "Makefile").read_text(encoding="utf-8"), folder / "calls"
    for name in [word.partition("=")[0] for word in words if "=" in word]:
        assert f"$({name})" in makefile, f"make {' '.join(words)}: no variable {name}"
    calls.write_text("")
    environment = {**os.environ, "CALLS": str(calls)}
    done = subprocess.run(
        ["make", "-o", ".venv/installed", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"make {' '.join(words)}\n{done.stderr}"
    for line in calls.read_text().splitlines():
        program, *arguments = line.split("\037")[:-1]
        if program == "dvc":
            check_dvc(arguments, stages)
        elif program == "python" and arguments[0] == "-m" and arguments[1] != "pytest":
            check_module(*arguments[1:])
        elif program == "pip":
            check_pip(*arguments)
    return done.stdout


def check_command(words: list[str], folder: Path, stages: set[str]) -> None:
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        assert name == "PIPELINE_LAUNCH"
        check_launch(shlex.split(value))
    program, *arguments = words
    match program.removeprefix(".venv/bin/"):
        case "make":
            check_make(arguments, folder, stages)
        case "dvc":
            check_dvc(arguments, stages)
        case "python":
            assert arguments[0] == "-m"
            check_module(*arguments[1:])
        case "torchrun":
            check_torchrun(*arguments)
        case "judge-defence":
            check_module("stages.evaluate", *arguments)
        case "pip":
            check_pip(*arguments)
        case "source":
            assert arguments == [".venv/bin/activate"]
        case "python3":
            assert arguments == ["-m", "venv", ".venv"]
        case "touch":  # what the Makefile takes as the sign that all is installed
            assert f"INSTALLED := {arguments[0]}\n" in (folder / "Makefile").read_text(encoding="utf-8")
        case "grep":
            *grep, to, file = arguments
            assert (to, file) == (">", ".venv/cpu.txt")
            left = subprocess.run(["grep", *grep], cwd=folder, capture_output=True, text=True, check=True).stdout
            assert "\ntorch==" in left
            assert "nvidia" not in left
        case "mkdir":
            (folder / arguments[0]).mkdir(exist_ok=True)
        case "cp":  # results, which this folder lacks, or a profile
            assert arguments in (["-r", "data", "../before/"], ["-r", "profiles/pcl", "profiles/pcl-svhn"])
            assert (folder / arguments[2]).is_dir() == arguments[2].endswith("/")  # else cp makes it a copy of the folder itself
            (folder / arguments[2]).mkdir(exist_ok=True)
        case "git":
            assert arguments[0] in ("add", "clone", "commit", "init", "pull", "push", "restore", "stash")
        case _:
            pytest.fail(f"no rule for {' '.join(words)}")


def check_yaml(text: str, folder: Path) -> None:
    """Sources by name are checked by their functions, a data set as part of a params.yaml, methods as mappings."""
    for line in text.splitlines() if text.startswith("{") else [text]:
        found = yaml.safe_load(line)
        if "name" in found:
            SourceChoice.model_validate(found, context=LOOKUPS)
        elif "pets" in found:
            own = {"extends": str(ROOT / "params.yaml"), "root": str(ROOT), "datasets": found, "run": {"datasets": ["pets"]}}
            (folder / "params.yaml").write_text(yaml.safe_dump(own))
            load_params(folder / "params.yaml", LOOKUPS)
        else:
            assert all(isinstance(method["base"], str) for method in found.values())


def check_python(text: str) -> None:
    """What it imports is there; it is run elsewhere, see the head of this file. An entry of a lookup is a line of its own there."""
    lines = [line for line in text.splitlines() if not re.fullmatch(r'    "[a-z]+": [A-Z][A-Za-z]+,', line)]
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ImportFrom) and "repel" not in str(node.module):
            exec(ast.unparse(node), {})


def check_script(text: str, folder: Path) -> None:
    """A shell script in place of python, run once."""
    (folder / "place").write_text(text)
    (folder / "place").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}", "CALLS": str(folder / "calls")}
    subprocess.run(["./place", "-m", "stages.train", "digits", "hcp", "0"], cwd=folder, env=environment, check=True, timeout=60)
    assert (folder / "calls").read_text() == "python\037-m\037stages.train\037digits\037hcp\0370\037\n"


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}-{number}" for number, block in enumerate(BLOCKS)])
def test_every_block_is_what_the_programs_take(block: Block, made: Path, stages: set[str]) -> None:
    text = block.text
    if block.language == "python":
        check_python(text)
    elif block.language == "yaml" or re.match(r"\{name: |pets: ", text):
        check_yaml(text, made)
    elif text.startswith("#!/bin/sh"):
        check_script(text, made)
    elif " -> " in text:  # the stages, drawn
        assert set(re.findall("[a-z]+", text)) <= stages
    elif text.startswith("The report is"):  # how make repro ends
        assert check_make(["repro"], made, stages).splitlines()[-1] == text
    elif text.startswith("Path "):  # what dvc params diff and dvc metrics diff print
        assert all((ROOT / line.split()[0]).is_file() for line in text.splitlines() if not line.startswith("Path "))
    elif text.startswith("Running stage "):  # what dvc repro prints
        run = [line.removeprefix("> PYTHONPATH=. ") for line in text.splitlines() if line.startswith("> ")]
        for words in commands("\n".join(run)):
            check_command(words, made, stages)
    else:
        assert is_command(text), f"{block.page}: no rule for\n{text}"
        for words in commands(text):
            named = block.language == "inline" and words[:2] == ["python", "-m"] and len(words) == 3
            check_command([*words, "--help"] if named else words, made, stages)  # a sentence may name a script alone


@pytest.mark.parametrize(
    "command",
    [
        "make plane",
        "make plan PROFIL=hcp",
        "make plan PROFILE=hpc",
        "make bench PARTS=autoatack",
        "dvc repro attack@digits-hpc-0",
        "dvc exp run --queued -S run.seeds=1",
        "python -m stages.evaluate --data digits --epz 1",
        "python -m stages.train digits hcp",
        "python -m stages.tain digits hcp 0",
        "python -m benchmarks.steps --quik",
        "torchrun --standalone --nprocs 2 -m stages.train digits madry 0",
        "torchrun --standalone -m stages.train digits madry",
        "PIPELINE_LAUNCH='torchrun --nprocs 2' dvc repro tables",
        "PIPELINE_LANCH=torchrun dvc repro tables",
        "pip install --no-dep torchattacks -q --nodeps",
        "mlflow ui",
    ],
)
def test_what_the_programs_do_not_take_is_noticed(command: str, made: Path, stages: set[str]) -> None:
    (words,) = commands(command)
    with pytest.raises((AssertionError, SystemExit, ImportError, DvcParserError, pytest.fail.Exception)):
        check_command(words, made, stages)


RUN = ["make help", "python -m stages.show hcp_at"]
RUN_SLOWLY = ["make plan", "make plan CHANGED=1", "python -m stages.reference"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone has it, without results."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pipeline", "stages", "docs", "data/given"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", *author, "commit", "-qm", "clone"]):
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)
    return folder


@pytest.mark.parametrize("command", [*RUN, *(pytest.param(command, marks=pytest.mark.slow) for command in RUN_SLOWLY)])
def test_what_costs_little_is_run(command: str, clone: Path) -> None:
    documented = {" ".join(words) for block in BLOCKS if is_command(block.text) for words in commands(block.text)}
    assert command in documented
    program = [*shlex.split(command)]
    if program[0] == "make":
        program[1:1] = ["-o", ".venv/installed"]
    done = subprocess.run(program, cwd=clone, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
