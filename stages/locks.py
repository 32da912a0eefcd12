"""python -m stages.locks: whether a killed dvc has left a lock that holds up the next one; no DVC stage."""

import argparse
from pathlib import Path

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Ends with status 2 and a line if DVC's lock file is torn or of a process that was killed and whose number another process has
    now: whose it is, and what to remove. Nothing is removed. `make repro` asks before it starts."""
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
