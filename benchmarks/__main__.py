"""The benchmarks one after the other, each in a process of its own, then the summary: steps, training, attacks, memory and floor,
an hour and a half on two cores; where they are named, repro, items and precision (half an hour each), autoattack (two to three
hours), cw_steps (half an hour) and defences (five minutes of a GPU). `make bench` runs this. Each has options of its own:
`python -m benchmarks.NAME --help`."""

import argparse
import subprocess
import sys
import time

from benchmarks.results import METRICS, QUICK
from benchmarks.summary import ORDER, write_summary

DEFAULT = ["steps", "training", "attacks", "memory", "floor"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ORDER)} (default: {' '.join(DEFAULT)})")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: the GPU where there is one")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all of it runs")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(ORDER):
        parser.error(f"unknown {', '.join(sorted(unknown))}, choose from {', '.join(ORDER)}")
    names, failed = chosen.names or DEFAULT, []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--device", chosen.device, *(["--quick"] if chosen.quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"[{number}/{len(names)}] {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    write_summary(QUICK if chosen.quick else METRICS)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
