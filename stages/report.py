"""Stage report: metrics/tables, metrics/figures, metrics/summary.json -> metrics/report.md."""

from pathlib import Path

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.files import content_key
from pipeline.reporting.markdown import schedule_text
from pipeline.reporting.published import load_published, published_epochs
from pipeline.reporting.report import hcp_report
from pipeline.tracking import track


def main() -> None:
    """One page, metrics/report.md: results in short, which claims of the paper hold, tables, figures and statistics, from the files
    in metrics/. MLflow gets all of them as artifacts."""
    params = load_params()
    run, metrics = params.run, Path("metrics")
    epochs = {name: params.datasets[name].training.epochs for name in run.datasets}
    headline_eps = {name: params.datasets[name].headline_eps for name in run.datasets}
    schedule = schedule_text(epochs, published_epochs(load_published()))
    page = hcp_report(
        metrics, datasets=run.datasets, seeds=run.seeds, headline_eps=headline_eps, schedule=schedule, labels=params.labels
    )
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
