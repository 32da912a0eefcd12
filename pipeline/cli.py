"""What every stage script shares on the command line: arguments, --help and errors without a traceback."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path


def run_stage(main: Callable[..., None], **arguments: str) -> None:
    """Parses `arguments` (name: help text) as positional ones and calls main(*values). A ValueError or OSError, which is how the
    library reports what the user can mend, becomes one line on stderr and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{Path(sys.argv[0]).stem}",
        description=main.__doc__,
        epilog="Reads params.yaml in the current folder. PIPELINE_TRACEBACK=1 shows where an error came from.",
    )
    for name, help_text in arguments.items():
        parser.add_argument(name, help=help_text, type=int if name == "seed" else str)
    values = vars(parser.parse_args())
    try:
        main(*values.values())
    except (ValueError, OSError) as error:
        if os.environ.get("PIPELINE_TRACEBACK"):
            raise
        print(f"error: {error} (PIPELINE_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(2)
