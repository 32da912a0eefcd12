"""python -m stages.locks: whether a killed dvc has left a lock that holds up the next one; no DVC stage."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """Exits with status 2 and one line if DVC's lock file is truncated, or if it belongs to a killed process whose PID is in use
    again: who owns it, and what to remove. Nothing is removed. `make repro` checks this first."""
    from pipeline.runtime.locks import stale_lock

    if found := stale_lock(Path()):
        raise ValueError(found)


if __name__ == "__main__":
    run_stage(main)
