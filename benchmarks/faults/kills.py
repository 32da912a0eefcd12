"""SIGKILL at random moments, again and again until the work is done; and two at once."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.faults.cases import Case, Stage
from benchmarks.faults.place import copy_place, differing, half_written, results, run, start

WHOM = ("all", "dvc alone", "the stage alone")
REPRO = ("dvc", "repro")
TORN = {"dvc.lock": "dvc.lock' (validation failed|is invalid)", ".dvc/tmp/rwlock": "Unable to read RWLock-file"}  # docs/everyday.md
LONGEST = {"stage": 12.0, "repro": 25.0}  # seconds until a kill: a stage of the small profile takes 3 to 10


def killed_stage(base: Path, folder: Path, stage: Stage, kills: int, rng: random.Random, wanted: dict[str, str]) -> Case:
    """Of one stage, run without DVC, which would remove what is half written."""
    copy_place(base, folder)
    for name in stage.writes:
        remove(folder / name)
    command = ("python", "-m", *stage.arguments)
    return chain(folder, command, f"{stage.name}: all", ["all"] * kills, LONGEST["stage"], rng, wanted)


def killed_repro(new: Path, folder: Path, kills: int, rng: random.Random, wanted: dict[str, str]) -> Case:
    """new: a folder in which nothing has been run."""
    copy_place(new, folder)
    whom = [rng.choice(WHOM) for _ in range(kills)]
    return chain(folder, REPRO, f"dvc repro: {', '.join(whom)}", whom, LONGEST["repro"], rng, wanted)


def chain(
    folder: Path, command: tuple[str, ...], what: str, whom: list[str], longest: float, rng: random.Random, wanted: dict[str, str]
) -> Case:
    """Starts the command and kills it, once for each of `whom`; then runs it to its end."""
    begun, sessions, moments = time.monotonic(), [], []
    for victim in whom:
        process = start(folder, *command)
        sessions.append(process)
        moments.append(rng.uniform(0.2, longest))
        try:
            process.wait(moments[-1])
        except subprocess.TimeoutExpired:
            kill(process, victim)
    finished = run(folder, *command)
    wait_for(sessions)
    torn = [name for name, said in TORN.items() if finished.returncode != 0 and re.search(said, finished.stderr)]
    for name in torn:
        (folder / name).unlink()
    again = finished if finished.returncode == 0 else run(folder, *command)  # what was left alone was in the way
    note = "" if again.returncode == 0 else f"status {again.returncode}: {' '.join(again.stderr.split())[-300:]}"
    other = differing(results(folder), wanted)
    note = note or (f"differ: {', '.join(other[:3])}" if other else "")
    shown = ", ".join(f"{moment:.1f}" for moment in moments) + " s" + "".join(f", {name} deleted" for name in torn)
    return Case("kill", f"{what}, after {shown}", None, not note, note, time.monotonic() - begun, len(whom))


def kill(process: "subprocess.Popen[bytes]", victim: str) -> None:
    """And waits for it; what is left alone by this goes on."""
    if victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "dvc alone":
        process.kill()
    else:
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
    process.wait()


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def wait_for(processes: list["subprocess.Popen[bytes]"]) -> None:
    """Until all that they have started has ended."""
    for process in processes:
        while group_lives(process.pid):
            time.sleep(0.2)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def two_at_once(place: Path, folder: Path, command: tuple[str, ...], without: tuple[str, ...], wanted: dict[str, str]) -> Case:
    """The command twice in one folder, then once more. without: outputs that are removed before."""
    begun = time.monotonic()
    copy_place(place, folder)
    for name in without:
        remove(folder / name)
    both = [start(folder, *command) for _ in range(2)]
    for process in both:
        process.wait()
    after = run(folder, *command)
    other = [*differing(results(folder), wanted), *half_written(folder)]
    note = f"differ: {', '.join(other[:3])}" if other else ""
    if after.returncode:
        note = f"status {after.returncode}: {' '.join(after.stderr.split())[-300:]}"
    return Case("two at once", " ".join(command).removeprefix("python -m stages."), None, not note, note, time.monotonic() - begun)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
