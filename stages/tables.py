"""Stage tables: data/attacks, data/transfer, data/cost -> metrics/tables, metrics/summary.json."""

from pathlib import Path

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.reporting.markdown import schedule_text
from pipeline.reporting.measurements import load_cost, load_transfer
from pipeline.reporting.outcomes import Strengths, load_cells
from pipeline.reporting.pcl_markdown import cw_text
from pipeline.reporting.published import load_published, published_epochs
from pipeline.reporting.write import write_cost, write_hcp, write_pcl, write_sweep, write_verdict


def main() -> None:
    """The tables of both papers with published and measured values (metrics/tables, CSV and Markdown), what every method keeps
    (verdict, metrics/summary.json), the Friedman and Nemenyi tests, from data/attacks, data/transfer and data/cost."""
    params = load_params()
    run, labels, data, published, out = params.run, params.labels, params.datasets, load_published(), Path("metrics/tables")
    used = {name: data[name] for name in run.datasets}
    strengths = {n: Strengths(d.evaluation.eps, d.evaluation.c, d.headline_eps, d.headline_c) for n, d in used.items()}
    epochs = {name: own.training.epochs for name, own in used.items()}
    cells = load_cells(Path("data/attacks"), datasets=run.datasets, methods=run.methods, seeds=run.seeds)
    transfer = load_transfer(Path("data/transfer"), datasets=run.datasets, seeds=run.seeds)
    cost = load_cost(Path("data/cost"), datasets=run.datasets)
    lengths = {name: {method: own[params.methods[method].epochs] for method in params.cost.methods} for name, own in epochs.items()}
    out.mkdir(parents=True, exist_ok=True)
    schedule = schedule_text(epochs, published_epochs(published, "hcp"))
    tests = params.statistics.model_dump()  # compare, alpha
    write_hcp(out, cells, published, schedule, strengths=strengths, labels=labels, methods=run.hcp, **tests)
    schedule = schedule_text(epochs, published_epochs(published, "pcl"))
    cw = cw_text(params.attacks["cw"].options, published)
    write_pcl(out, cells, transfer, published, schedule, strengths=strengths, labels=labels, methods=run.pcl, cw=cw)
    write_cost(out, cost, published, epochs=lengths, labels=labels)
    write_sweep(out, cells, sweep={name: own.evaluation.sweep for name, own in used.items()}, labels=labels)
    write_verdict(out, Path("metrics/summary.json"), cells, strengths=strengths, labels=labels)


if __name__ == "__main__":
    run_stage(main)
