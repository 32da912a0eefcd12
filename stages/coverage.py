"""python -m stages.coverage: metrics/coverage.md and REPRODUCTION.md, what is measured of both papers; no DVC stage."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """Writes metrics/coverage.md and REPRODUCTION.md: the papers' figures and claims against the tables of its runs."""
    for path, text in texts(Path(__file__).parents[1]).items():
        path.write_text(text, encoding="utf-8")


def texts(root: Path) -> dict[Path, str]:
    from pipeline.jobs.changes import single_changes
    from pipeline.jobs.plan.full_runs import load_runs, needs, read_speeds, reduced_sets, source_texts, training_texts
    from pipeline.params.described import describe
    from pipeline.reporting.published import load_published, schedules
    from pipeline.reporting.reproduction.coverage import SEEDS, Measured, coverage_markdown
    from pipeline.reporting.reproduction.markdown import reproduction_markdown
    from pipeline.reporting.run import run_from

    published, params, machine = load_published(), load_runs(root), root / "metrics/benchmarks/nvidia-h200"
    lengths, speeds, runs = schedules(published), read_speeds(machine), list[Measured]()
    papers = {paper: params[f"profiles/{paper}/params.yaml"] for paper in lengths}
    for name, own in params.items():
        words = training_texts(own), source_texts(own), single_changes(own), reduced_sets(own, lengths, papers)
        runs.append(Measured(name, (root / name).parent / "metrics", run_from(describe(own)), *words))
    rest, many = ({paper: needs(own, speeds, n) for paper, own in papers.items()} for n in (1, SEEDS))
    return {
        root / "metrics/coverage.md": coverage_markdown(published, runs, rest, many, machine.name),
        root / "REPRODUCTION.md": reproduction_markdown(published, runs, rest, root / "metrics/benchmarks"),
    }


if __name__ == "__main__":
    run_stage(main)
