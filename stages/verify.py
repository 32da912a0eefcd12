"""python -m stages.verify: whether cache and outputs are what dvc.lock says; no DVC stage."""

import sys
from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """Reads every object of DVC's cache and every output of dvc.lock that is here, and lists those that have changed, with
    their stage; DVC itself does not notice such changes. Exit status 1 if there are any. Nothing is written."""
    from pipeline.runtime.verify import verify

    found = verify(Path())
    for path, names in found.objects.items():
        print(f"{path} in the cache has changed: {', '.join(names) or 'of no output in dvc.lock'}")
    for path, stage in found.outputs.items():
        print(f"{path} has changed: of {stage}")
    bad = len(found.objects) + len(found.outputs)
    print(f"{found.checked} files checked, {bad} changed" + ("; delete them, then dvc pull or dvc repro" if bad else ""))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    run_stage(main)
