"""python -m stages.evaluate: the verdict on any classifier; no DVC stage. As installed: judge-defence."""

import os
import sys


def main() -> None:
    """Judges a classifier that takes images in [0, 1] and answers with logits: AutoAttack, attacks that know its features, and
    signs of masked gradients. Writes outcomes by image, checks and a report into a folder."""
    from pipeline.jobs.evaluate_command import arguments, evaluate_command
    from pipeline.reporting.page.given import write_report
    from pipeline.runtime.distributed import process_group

    try:
        args = arguments(main.__doc__)
        with process_group():
            print(evaluate_command(args, write_report))
    except (ValueError, OSError) as error:
        if os.environ.get("PIPELINE_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())} (PIPELINE_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
