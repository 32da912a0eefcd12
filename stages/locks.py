"""python -m stages.locks: whether a killed dvc has left a lock that holds up the next one; no DVC stage."""

import argparse
from pathlib import Path

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Exits with status 2 and one line if DVC's lock file is truncated, or if it belongs to a killed process whose PID is in use
    again: who owns it, and what to remove. Nothing is removed. `make repro` checks this first."""
    from pipeline.runtime.locks import stale_lock

    parser = argparse.ArgumentParser(
        prog="python -m stages.locks", description=main.__doc__, epilog="Run it in the folder of dvc.yaml."
    )
    parser.parse_args()
    with one_line_errors():
        if found := stale_lock(Path()):
            raise ValueError(found)


if __name__ == "__main__":
    main()
