"""Stage tables: data/attacks, data/verdict, data/transfer, data/cost -> metrics/tables, metrics/summary.json."""

from pathlib import Path
from typing import Any

from pipeline.runtime.cli import run_stage


def main() -> None:
    """The tables of both papers with published and measured values, the Friedman and Nemenyi tests, what every method keeps
    (metrics/tables, metrics/summary.json), from data/attacks, data/verdict, data/transfer and data/cost."""
    from pipeline.params.schema import load_params
    from pipeline.reporting.markdown import schedule_text
    from pipeline.reporting.measurements import load_cost, load_transfer
    from pipeline.reporting.outcomes import Strengths, load_cells
    from pipeline.reporting.pcl_markdown import cw_text
    from pipeline.reporting.published import load_published, published_epochs
    from pipeline.reporting.write import write_cost, write_hcp, write_pcl, write_sweep, write_verdict

    params = load_params()
    run, labels, data, published, out = params.run, params.labels, params.datasets, load_published(), Path("metrics/tables")
    used = {name: data[name] for name in run.datasets}
    strengths = {n: Strengths(d.evaluation.eps, d.evaluation.c, d.headline_eps, d.headline_c) for n, d in used.items()}
    epochs = {name: own.training.epochs for name, own in used.items()}
    chosen: dict[str, Any] = {"datasets": run.datasets, "methods": run.methods, "seeds": run.seeds}
    named: dict[str, Any] = {"strengths": strengths, "labels": labels}
    cells = load_cells(Path("data/attacks"), **chosen)
    transfer = load_transfer(Path("data/transfer"), datasets=run.datasets, seeds=run.seeds)
    hcp, pcl = (schedule_text(epochs, published_epochs(published, paper)) for paper in ("hcp", "pcl"))
    write_hcp(out, cells, published, hcp, methods=run.hcp, **named, **params.statistics.model_dump())
    cw = cw_text(params.attacks["cw"].options, published)
    write_pcl(out, cells, transfer, published, pcl, methods=run.pcl, cw=cw, **named)
    write_cost(out, load_cost(Path("data/cost"), datasets=run.datasets), published, labels=labels)
    write_sweep(out, cells, sweep={name: own.evaluation.sweep for name, own in used.items()}, labels=labels)
    parts = {part: choice.name for part, choice in params.autoattack[params.verdict.autoattack].items()}
    write_verdict(out, cells, transfer, data=Path("data"), chosen=chosen, parts=parts, **named)


if __name__ == "__main__":
    run_stage(main)
