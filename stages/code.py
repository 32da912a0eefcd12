"""Stage code: stages/, pipeline/ -> metrics/code."""

from pathlib import Path

from pipeline.params.code import import_graph, sources
from pipeline.runtime.cli import run_stage
from pipeline.runtime.files import file_digest


def main() -> None:
    """Writes metrics/code/SCRIPT.sha256 for each script in stages/: the checksums of all files that its results follow from, which
    are those that it imports. DVC does not follow imports; so each stage depends on the checksums of its script."""
    root, out = Path(__file__).parents[1], Path("metrics/code")
    out.mkdir(parents=True, exist_ok=True)
    graph = import_graph(root)
    for script in root.glob("stages/[a-z]*.py"):
        lines = [f"{file_digest(file)}  {file.relative_to(root).as_posix()}\n" for file in sources(script, graph)]
        (out / f"{script.stem}.sha256").write_text("".join(lines))


if __name__ == "__main__":
    run_stage(main)
