"""Stage figures: data/attacks, metrics/tables/hcp_statistics.csv -> metrics/figures."""

from pathlib import Path

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.reporting.figures import FIGURE3_METHODS, critical_difference_figure, features_figure, noise_figure, save
from pipeline.reporting.outcomes import load_features, load_noise
from pipeline.reporting.statistics_text import read_statistics


def main() -> None:
    """Figures 2 and 3 of the hcp paper and the critical difference diagram (metrics/figures), from data/attacks and
    metrics/tables/hcp_statistics.csv."""
    params = load_params()
    run, labels, attacks, out = params.run, params.labels, Path("data/attacks"), Path("metrics/figures")
    noise = load_noise(attacks, datasets=run.datasets, methods=run.methods, seeds=run.seeds, stops=list(params.noise.stop))
    drawn = [method for method in run.methods if method in FIGURE3_METHODS] or run.methods[:1]
    features = load_features(attacks, datasets=run.datasets, methods=drawn, seed=run.seeds[0])
    statistics = read_statistics(Path("metrics/tables/hcp_statistics.csv"))
    save(noise_figure(noise, labels), out / "hcp_figure2.png")
    save(features_figure(features, labels), out / "hcp_figure3.png")
    save(critical_difference_figure(statistics, labels), out / "hcp_critical_difference.png")


if __name__ == "__main__":
    run_stage(main)
