"""Stage figures: data/attacks, data/planes, metrics/tables -> metrics/figures."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """The figures of both papers with the critical difference diagram (metrics/figures), from data/attacks, data/planes and
    metrics/tables."""
    import pandas as pd

    from pipeline.params.schema import load_params
    from pipeline.reporting.embeddings import depth_rows, loss_rows, tsne_figure
    from pipeline.reporting.figures import FIGURE3_METHODS, critical_difference_figure, features_figure, noise_figure, save
    from pipeline.reporting.measurements import load_planes
    from pipeline.reporting.outcomes import load_features, load_noise
    from pipeline.reporting.pcl_figures import progress_figure, sweep_figure, twins_figure
    from pipeline.reporting.statistics_text import read_statistics

    params = load_params()
    run, labels = params.run, params.labels
    attacks, tables, out = Path("data/attacks"), Path("metrics/tables"), Path("metrics/figures")
    noise = load_noise(attacks, datasets=run.datasets, methods=run.hcp, seeds=run.seeds, stops=list(params.noise.stop))
    drawn = [method for method in run.hcp if method in FIGURE3_METHODS] or run.methods[:1]
    features = load_features(attacks, datasets=run.datasets, methods=drawn, seed=run.seeds[0])
    planes = load_planes(Path("data/planes"), datasets=run.datasets, methods=params.planes.methods)
    save(noise_figure(noise, labels), out / "hcp_figure2.png")
    save(features_figure(features, labels), out / "hcp_figure3.png")
    save(critical_difference_figure(read_statistics(tables / "hcp_statistics.csv"), labels), out / "hcp_critical_difference.png")
    save(twins_figure(planes, labels), out / "pcl_figure1.png")
    save(tsne_figure(loss_rows(attacks, run.datasets, run.methods, run.seeds[0], labels)), out / "pcl_figure4.png")
    save(tsne_figure(depth_rows(attacks, run.datasets, run.methods, run.seeds[0])), out / "pcl_figure5.png")
    save(progress_figure(planes, labels), out / "pcl_figure6.png")
    save(sweep_figure(pd.read_csv(tables / "pcl_figure7.csv")), out / "pcl_figure7.png")


if __name__ == "__main__":
    run_stage(main)
