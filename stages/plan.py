"""python -m stages.plan: what a run would take, before it is run; no DVC stage."""

import argparse
import json

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Says what the run of params.yaml would take on this machine: images through the networks, FLOPs, hours, disk and memory, by
    stage, method and data set. It counts the work of each item, and takes half a minute a network to measure how fast that is.
    Nothing needs to have been run, and nothing is written."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.plan", description=main.__doc__, epilog="Run it in the folder of params.yaml."
    )
    parser.add_argument("--jobs", type=int, default=2, help="items side by side, as in make repro JOBS=N (default: 2)")
    parser.add_argument("--json", action="store_true", help="the same as JSON, with plain numbers")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    from pipeline.jobs.plan_tables import as_text, make_plan
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.resolve import all_items
    from pipeline.params.schema import load_params

    with one_line_errors():
        plan = make_plan(all_items(load_params(lookups=LOOKUPS)), options.jobs)
    print(json.dumps(plan, indent=2) if options.json else as_text(plan))


if __name__ == "__main__":
    main()
