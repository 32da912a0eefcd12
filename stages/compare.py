"""python -m stages.compare: revisions, experiments and runs side by side; no DVC stage."""

import argparse
import shutil
from pathlib import Path

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """The workspace, HEAD, and its experiments, or the revisions that are named, by the params and figures in which they differ.

    With --runs, two folders in which this pipeline was run, on two machines for example, image by image: is the difference of a
    model more than chance, and more than another seed gives?"""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=main.__doc__)
    parser.add_argument("revisions", nargs="*", help="branches, tags, commits; default: HEAD with its experiments")
    parser.add_argument("--runs", nargs=2, type=Path, metavar=("FIRST", "SECOND"), help="folders of two runs")
    parser.add_argument("--all", action="store_true", help="with --runs: models that do not differ too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    chosen = parser.parse_args()
    style, width = ("pipe", 120) if chosen.markdown else ("simple", shutil.get_terminal_size((120, 24)).columns)
    with one_line_errors():
        from pipeline.params.merge import merged
        from pipeline.reporting.compare import paired_text, revisions_text

        if chosen.runs:
            print(paired_text(*chosen.runs, everything=chosen.all, style=style))
        else:
            import dvc.api
            from dvc.exceptions import DvcException

            try:
                rows = dvc.api.exp_show(revs=chosen.revisions or None)
            except DvcException as error:
                raise ValueError(str(error)) from None
            print(revisions_text(rows, list(merged()), width=width, style=style))


if __name__ == "__main__":
    main()
