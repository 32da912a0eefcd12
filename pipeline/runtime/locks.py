"""DVC's lock file after a hard kill. DVC drops what processes that are gone have left there; it cannot read a file that is torn,
and it waits for a process that has the number of one that was killed."""

import json
import time
from pathlib import Path
from typing import Any

import psutil

READS = 5  # DVC writes the file in place: one that it is writing is not torn a moment later


def stale_lock(folder: Path) -> str | None:
    """folder: that of dvc.yaml -> what is wrong with .dvc/tmp/rwlock there, whose it is and what to do; None where nothing is."""
    file = folder / ".dvc/tmp/rwlock"
    try:
        held = _read(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return f"{file}, DVC's lock file, is truncated, perhaps by a kill: if no DVC process runs here, rm {file}"
    entries = [*held.get("write", {}).values(), *(entry for entries in held.get("read", {}).values() for entry in entries)]
    for number, command in sorted({(int(entry["pid"]), str(entry["cmd"])) for entry in entries}):
        if (other := _another(number, command)) is not None:
            return (
                f"{file}, DVC's lock file, is of `{command}`, process {number}, which was killed; the number belongs to `{other}` "
                f"now, for which DVC would wait: rm {file}"
            )
    return None


def _read(file: Path) -> dict[str, Any]:
    for again in reversed(range(READS)):
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return content
        except ValueError:
            if not again:
                raise
            time.sleep(0.1)
    raise AssertionError


def _another(number: int, command: str) -> str | None:
    """The command line of process `number` if it is not that of `command`, sys.argv of a dvc; None where it is, or is not known."""
    try:
        words = psutil.Process(number).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    arguments = command.partition(" ")[2]
    return None if words and " ".join(words).endswith(arguments) else " ".join(words)[:80] or "a process of the system"
