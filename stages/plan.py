"""python -m stages.plan: what a run would take, before it is run; no DVC stage."""

import argparse
import json
import sys

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Says what the run of params.yaml would take on this machine: images through the networks, FLOPs, hours, disk and memory, by
    stage, method and data set. It counts the work of each item, and measures the speed of each network for half a minute.
    Nothing needs to have been run, and nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m stages.plan", description=main.__doc__, epilog="Run it beside params.yaml.")
    parser.add_argument("--changed", action="store_true", help="only what dvc repro would run now, after an edit for example")
    parser.add_argument("--jobs", type=int, default=2, help="items side by side, as in make repro JOBS=N (default: 2)")
    parser.add_argument("--json", action="store_true", help="the same as JSON, with plain numbers")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    from pipeline.jobs.plan.stale import stale_items
    from pipeline.jobs.plan.tables import as_text, make_plan
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.resolve import all_items
    from pipeline.params.schema import load_params

    with one_line_errors():
        items = all_items(load_params(lookups=LOOKUPS))
        chosen = stale_items(items) if options.changed else None
        if chosen is not None:
            print(f"dvc repro would run: {', '.join(sorted(chosen)) or 'nothing'}", file=sys.stderr)
        if chosen == set():
            return
        plan = make_plan(items, options.jobs, chosen)
    print(json.dumps(plan, indent=2) if options.json else as_text(plan))


if __name__ == "__main__":
    main()
