"""A disk that is full, a limit on the size of files, a folder that cannot be written to; and files with a changed bit or a part."""

import random
import shlex
import subprocess
import time
from pathlib import Path

from benchmarks.faults.cases import Case, Stage
from benchmarks.faults.kills import remove
from benchmarks.faults.place import copy_place, differing, half_written, results, run

NAMESPACE = ("unshare", "--mount", "--map-root-user")  # its mounts are seen by the command alone, and end with it
WHOLE = ("models/", *(f"data/{name}/" for name in ("attacks", "verdict", "transfer", "planes")))  # what is written whole or not
KINDS = ("file-size limit", "disk full", "read-only folder")


def has_namespaces() -> bool:
    """Whether this user may mount in one: Linux, where it is not switched off."""
    try:
        tried = "mount -t tmpfs -o size=4k none /mnt"
        return subprocess.run([*NAMESPACE, "sh", "-c", tried], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def obstacle(base: Path, folder: Path, stage: Stage, kind: str, rng: random.Random, wanted: dict[str, str]) -> Case:
    """The stage anew with the obstacle, where it may fail in one line and leave nothing behind; then without."""
    begun = time.monotonic()
    copy_place(base, folder)
    place = rng.choice(folders(stage, folder))
    most = max(file.stat().st_size for name in stage.writes for file in written(folder / name))
    for name in stage.writes:
        remove(folder / name)
    (folder / place).mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", *stage.arguments])
    kib = rng.randrange(1, max(most // 1024, 2))
    match kind:
        case "file-size limit":
            said = run(folder, "bash", "-c", f"ulimit -f {kib}; exec {command}")  # bash counts in KiB
            what = f"{stage.name}, {kib} KiB"
        case "disk full":
            size = max(4, kib // 4 * 4)  # whole pages
            said = run(folder, *NAMESPACE, "sh", "-c", f"mount -t tmpfs -o size={size}k none {place}; {command}")
            what = f"{stage.name}, {size} KiB in {place}"
        case _:
            bound = f"mount --bind {place} {place} && mount -o remount,bind,ro {place}"
            said = run(folder, *NAMESPACE, "sh", "-c", f"{bound}; {command}")
            what = f"{stage.name}, {place}"
    half = [name for name in differing(results(folder), wanted) if name.startswith(WHOLE) and (folder / name).exists()]
    one_line, notes = clear(said), [f"half written: {name}" for name in [*half_written(folder), *half]]
    if said.returncode == 0 or (said.returncode == 2 and one_line):
        after = run(folder, "python", "-m", *stage.arguments)
        notes += [after.stderr[-300:]] if after.returncode else differing(results(folder), wanted)
    else:
        notes.append(f"status {said.returncode}: {' '.join(said.stderr.split())[-300:]}")
    return Case(kind, what, one_line or said.returncode == 0, not notes, ", ".join(notes[:3]), time.monotonic() - begun)


def changed_file(base: Path, folder: Path, stage: Stage, name: str, rng: random.Random, wanted: dict[str, str]) -> Case:
    """One bit, or all behind a place; the stage is to see it, with nothing touched, or to give the same."""
    begun, path = time.monotonic(), folder / name
    copy_place(base, folder)
    content = bytearray(path.read_bytes())
    place, half = rng.randrange(len(content)), rng.random() < 0.25
    if half:
        path.write_bytes(content[:place])
    else:
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    said = run(folder, "python", "-m", *stage.arguments)
    one_line = clear(said)
    others = [other for other in differing(results(folder), wanted) if other != name]
    notes = [f"{'results change without a word' if said.returncode == 0 else 'changed'}: {', '.join(others[:3])}"] if others else []
    if said.returncode not in (0, 2) or (said.returncode == 2 and not one_line):
        notes.append(f"status {said.returncode}: {' '.join(said.stderr.split())[-300:]}")
    what = f"{stage.name} reads {name}, {'cut off at byte' if half else 'a bit of byte'} {place}"
    return Case("damaged file", what, one_line or said.returncode == 0, not others, "; ".join(notes), time.monotonic() - begun)


def folders(stage: Stage, folder: Path) -> list[str]:
    """Those that hold nothing but what the stage writes."""
    return [name for name in stage.writes if (folder / name).is_dir()]


def clear(said: "subprocess.CompletedProcess[str]") -> bool:
    """One line says what is wrong."""
    lines = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    return said.returncode == 2 and len(lines) == 1 and "Traceback" not in said.stderr


def written(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
