"""python -m stages.ui: the MLflow UI; no DVC stage."""

import argparse
import sys

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """The MLflow UI on http://127.0.0.1:PORT, with links that open the attacked models side by side, and as a list. What the store
    has missed is recorded first (see stages.sync)."""
    from pipeline.params.merge import read_tracking
    from pipeline.tracking.store import Settings
    from pipeline.tracking.ui import serve

    parser = argparse.ArgumentParser(prog="python -m stages.ui", description=main.__doc__)
    parser.add_argument("port", nargs="?", type=int, default=5000, help="of the page; default: %(default)s")
    port = parser.parse_args().port
    with one_line_errors():
        sys.exit(serve(Settings(**read_tracking()), port))


if __name__ == "__main__":
    main()
