"""Stage report: params.yaml, data/report and all that is in metrics/ -> metrics/report.html, metrics/report.md."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """One page, metrics/report.html, and the same as Markdown: the verdict on every method, a card a model, which claims of the
    papers hold, tables, statistics, figures, how it was made."""
    from pipeline.reporting.page.html import Page
    from pipeline.reporting.page.report import report, report_markdown
    from pipeline.reporting.run import read_run

    run, metrics = read_run(Path("data/items/report.yaml")), Path("metrics")
    page = report(run, metrics, Path("data"), Path("params.yaml").read_text(encoding="utf-8"), Path(".ckpt/times"))
    (metrics / "report.md").write_text(report_markdown(page), encoding="utf-8")
    (metrics / "report.html").write_text(Page(metrics).render(page), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
