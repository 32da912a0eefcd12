"""Stage report: metrics/tables, metrics/figures, metrics/summary.json -> metrics/report.md."""

from pathlib import Path

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.files import content_key
from pipeline.reporting.markdown import schedule_text
from pipeline.reporting.outcomes import Strengths
from pipeline.reporting.published import load_published, published_epochs
from pipeline.reporting.report import Run, report
from pipeline.tracking import track


def main() -> None:
    """One page, metrics/report.md: results in short, which claims of the papers hold, tables, figures and statistics, from the
    files in metrics/. MLflow gets all of them as artifacts."""
    params = load_params()
    run, metrics, published = params.run, Path("metrics"), load_published()
    used = {name: params.datasets[name] for name in run.datasets}
    strengths = {n: Strengths(d.evaluation.eps, d.evaluation.c, d.headline_eps, d.headline_c) for n, d in used.items()}
    epochs = {name: own.training.epochs for name, own in used.items()}
    hcp, pcl = (schedule_text(epochs, published_epochs(published, paper)) for paper in ("hcp", "pcl"))
    discrepancies = Path("..", params.root, "docs/discrepancies.md").as_posix()
    page = report(metrics, Run(run.datasets, run.seeds, strengths, params.labels, hcp, pcl, discrepancies))
    (metrics / "report.md").write_text(page)
    files = sorted(path for path in metrics.rglob("*") if path.suffix in {".csv", ".md", ".png", ".json"})
    with track(
        **params.tracking.model_dump(),
        experiment="report",
        name=" ".join(run.datasets),
        key=content_key({}, files, ["reporting"]),
        params={"datasets": run.datasets, "seeds": run.seeds},
        tags={"stage": "report"},
    ) as tracked:
        tracked.artifact(metrics)


if __name__ == "__main__":
    run_stage(main)
