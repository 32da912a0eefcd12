"""Stage report: metrics/tables, metrics/figures, metrics/summary.json, params.yaml -> metrics/report.html, metrics/report.md."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """One page, metrics/report.html, and the same as Markdown: the verdict on every method, a card a model, which claims of the
    papers hold, tables, figures, statistics, how it was made; from the files in metrics/. MLflow gets all of them as artifacts."""
    from pipeline.params.schema import load_params
    from pipeline.reporting.html import Page
    from pipeline.reporting.markdown import schedule_text
    from pipeline.reporting.outcomes import Strengths
    from pipeline.reporting.published import load_published, published_epochs
    from pipeline.reporting.report import Run, report, report_markdown
    from pipeline.runtime.files import content_key
    from pipeline.tracking import track

    params = load_params()
    run, metrics, published, version = params.run, Path("metrics"), load_published(), params.verdict.autoattack
    used = {name: params.datasets[name] for name in run.datasets}
    strengths = {n: Strengths(d.evaluation.eps, d.evaluation.c, d.headline_eps, d.headline_c) for n, d in used.items()}
    epochs = {name: own.training.epochs for name, own in used.items()}
    hcp, pcl = (schedule_text(epochs, published_epochs(published, paper)) for paper in ("hcp", "pcl"))
    made = (Path("..", params.root, "docs/discrepancies.md").as_posix(), version, Path("params.yaml").read_text())
    page = report(metrics, Run(run.datasets, run.seeds, strengths, params.labels, hcp, pcl, *made, Path(".ckpt/times")))
    (metrics / "report.md").write_text(report_markdown(page))
    (metrics / "report.html").write_text(Page(metrics).render(page))
    files = sorted(path for path in metrics.rglob("*") if path.suffix in {".csv", ".md", ".png", ".json"})
    name, about = " ".join(run.datasets), {"datasets": run.datasets, "seeds": run.seeds}
    where, key = params.tracking.model_dump(), content_key({}, files, ["reporting"])
    with track(**where, experiment="report", name=name, key=key, params=about, tags={"stage": "report"}) as tracked:
        tracked.artifact(metrics)


if __name__ == "__main__":
    run_stage(main)
