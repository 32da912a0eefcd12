"""Stage cards: data/attacks, data/verdict, metrics/tables -> metrics/cards."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """A picture for each model's card in the report, metrics/cards/DATASET/METHOD.png: accuracy against eps, what each attack
    broke, noise, features, worst examples; from data/attacks, data/verdict and metrics/tables."""
    from pipeline.params.schema import load_params
    from pipeline.reporting.cards import save_cards

    params = load_params()
    run, eps = params.run, {name: params.datasets[name].headline_eps for name in params.run.datasets}
    save_cards(Path("data"), Path("metrics/tables"), Path("metrics/cards"), eps=eps, methods=run.methods, seeds=run.seeds)


if __name__ == "__main__":
    run_stage(main)
