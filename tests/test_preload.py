"""Stages as forks of a process that has the imports: as if each had been started by itself."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

STAGE = '''
import json, os, sys, time
from pathlib import Path
from pipeline.cli import run_stage

def main(dataset: str, seed: int) -> None:
    """A stage."""
    Path(f"pid-{dataset}").write_text(str(os.getpid()))
    while dataset == "long":
        time.sleep(0.1)
    if dataset == "wrong":
        raise ValueError("nothing to mend")
    if dataset == "broken":
        raise KeyError("a bug")
    if dataset == "killed":
        os.kill(os.getpid(), 9)
    seen = {"torch": "torch" in sys.modules, "seed": seed, "cwd": str(Path.cwd()), "variable": os.environ.get("VARIABLE")}
    print(json.dumps(seen))
    print("a warning", file=sys.stderr)

if __name__ == "__main__":
    run_stage(main, dataset="", seed="")
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own with one heavy stage, train, and one that reports, tables."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "stages").mkdir()
    for name in ("train", "tables"):
        (folder / f"stages/{name}.py").write_text(STAGE)
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    return folder


PRELOAD = [sys.executable, "-m", "pipeline.preload"]
READY = """until [ -z "$PIPELINE_PRELOADED" ] || grep -q "00010000 .*$PIPELINE_PRELOADED" /proc/net/unix; do sleep 0.1; done; """

IT_RUNS = "until [ -s pid-long ]; do sleep 0.1; done"


def preloaded(folder: Path, script: str, wait: str = READY, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell script under `python -m pipeline.preload`, from when that listens on."""
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIPELINE_LAUNCH")}
    return subprocess.run(
        [*PRELOAD, "sh", "-c", wait + script.replace("stage ", f"{sys.executable} -m stages.train ")],
        cwd=folder,
        env={**known, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_stage_sees_its_own_arguments_environment_folder_and_streams(folder: Path, tmp_path: Path) -> None:
    done = preloaded(folder, f"VARIABLE=here stage digits 3; cd {tmp_path}; PYTHONPATH={folder} stage digits 4 2>errors; exit 7")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {"torch": True, "seed": 3, "cwd": str(folder), "variable": "here"}
    assert second == {"torch": True, "seed": 4, "cwd": str(tmp_path), "variable": None}
    assert done.stderr == "a warning\n"
    assert (tmp_path / "errors").read_text() == "a warning\n"
    assert [path.name for path in tmp_path.glob(".ckpt/times/*")] == ["train@digits-4.json"]
    assert done.returncode == 7


def test_its_exit_status_and_what_it_says_are_passed_on(folder: Path) -> None:
    done = preloaded(
        folder, "for name in wrong broken killed; do stage $name 0; echo $?; done; stage digits x; echo $?; stage --help"
    )
    assert done.stdout.split()[:4] == ["2", "1", "1", "2"]
    assert "usage: python -m stages.train" in done.stdout
    assert "error: nothing to mend (PIPELINE_TRACEBACK=1 shows where)" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "KeyError: 'a bug'" in done.stderr
    assert "stages.train killed 0 was killed" in done.stderr
    assert "invalid int value: 'x'" in done.stderr


def test_stages_run_side_by_side(folder: Path) -> None:
    (folder / "pid-long").unlink(missing_ok=True)
    done = preloaded(folder, f"stage long 0 & p=$!; {IT_RUNS}; stage digits 1; kill $p; wait $p; echo $?")
    assert json.loads(done.stdout.splitlines()[0])["seed"] == 1
    assert done.stdout.splitlines()[1] == str(128 + signal.SIGTERM)
    assert is_gone(int((folder / "pid-long").read_text()))


@pytest.mark.parametrize("whose", ["$p", "$(cat pid-long)"])
def test_what_is_killed_dies_and_whoever_waits_for_it_hears_of_it(folder: Path, whose: str) -> None:
    """The process that DVC has started takes the stage with it, and the other way round."""
    (folder / "pid-long").unlink(missing_ok=True)
    done = preloaded(folder, f"stage long 0 & p=$!; {IT_RUNS}; kill -9 {whose}; wait $p; echo $?")
    assert done.stdout.split()[-1] != "0"
    assert is_gone(int((folder / "pid-long").read_text()))


def test_the_keyboard_stops_all_and_nobody_else_complains(folder: Path) -> None:
    (folder / "pid-long").unlink(missing_ok=True)
    command = [*PRELOAD, "sh", "-c", f"{READY} {sys.executable} -m stages.train long 0"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    running = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    while not (folder / "pid-long").exists() or not (folder / "pid-long").read_text():
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode != 0
    assert said.count("Traceback") == 1  # the stage's own
    assert is_gone(int((folder / "pid-long").read_text()))


def test_code_that_cannot_be_imported_is_the_stages_to_complain_of(tmp_path: Path) -> None:
    """Nobody waits for a process that will never answer."""
    for name in ("cli", "preload"):
        (tmp_path / f"pipeline/{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"pipeline/{name}.py").write_text((ROOT / f"pipeline/{name}.py").read_text())
    (tmp_path / "pipeline/jobs").mkdir()
    (tmp_path / "pipeline/jobs/train.py").write_text("import time\ntime.sleep(2)\nimport nonsense\n")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/train.py").write_text(STAGE.replace('"""A stage."""', "import pipeline.jobs.train"))
    done = preloaded(tmp_path, "sleep 1; stage digits 1; echo $?", wait="")
    assert done.stdout == "1\n"
    assert "No module named 'nonsense'" in done.stderr
    assert done.stderr.count("Traceback") == 1


def test_dvc_runs_there_too(folder: Path) -> None:
    dvc = f"{sys.executable} -m pipeline.preload -m dvc"
    done = preloaded(folder, f"{dvc} --version; {dvc} status; echo $?; PIPELINE_PRELOADED= {dvc} --version")
    version, status, without = done.stdout.split()
    assert version == without == metadata.version("dvc")
    assert status == "253"  # as DVC says that this is not its folder
    assert "you are not inside of a DVC repository" in done.stderr


def test_without_the_process_that_has_the_imports_a_stage_runs_by_itself(folder: Path) -> None:
    done = preloaded(folder, "PIPELINE_PRELOADED=/nowhere stage digits 1")
    assert json.loads(done.stdout) == {"torch": False, "seed": 1, "cwd": str(folder), "variable": None}


def test_whoever_comes_before_the_imports_are_there_does_not_wait_for_them(folder: Path) -> None:
    assert not json.loads(preloaded(folder, "stage digits 1", wait="").stdout)["torch"]


def test_stages_that_report_are_forks_too(folder: Path) -> None:
    assert json.loads(preloaded(folder, f"{sys.executable} -m stages.tables digits 1").stdout)["torch"]


def test_a_launcher_of_the_users_own_goes_first(folder: Path) -> None:
    done = preloaded(folder, "stage digits 1", PIPELINE_LAUNCH="echo launched")
    assert done.stdout == "launched -m stages.train digits 1\n"


def test_nothing_that_is_imported_starts_threads_of_torch_or_a_gpu() -> None:
    """A fork would not have them."""
    code = (
        "import threading, torch; from pipeline.preload import import_what_they_need as load; load()\n"
        "from pathlib import Path\n"
        "assert not torch.cuda.is_initialized()\n"
        "names = [(p / 'comm').read_text().strip() for p in Path('/proc/self/task').iterdir()]\n"
        "print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


def is_gone(pid: int) -> bool:
    """Whether the process ends within seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
