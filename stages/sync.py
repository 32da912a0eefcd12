"""python -m stages.sync: records in MLflow what the store has missed; no DVC stage."""

import argparse
from pathlib import Path

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Records in MLflow, from the files below FOLDER (models/, data/), all runs that the store does not have: after an outage, from
    another machine, from a machine without MLflow; then what the report says of each model. What is there stays as it is."""
    from pipeline.params.merge import read_tracking
    from pipeline.tracking.results import sync_all
    from pipeline.tracking.store import Settings

    parser = argparse.ArgumentParser(prog="python -m stages.sync", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: the current folder")
    folder = parser.parse_args().folder
    with one_line_errors():
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder")
        settings = Settings(**read_tracking())
        if not settings.enabled:
            raise ValueError("tracking.enabled is false in params.yaml: nothing is recorded")
        print(f"{sync_all(settings, folder)} runs recorded")


if __name__ == "__main__":
    main()
