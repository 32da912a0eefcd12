"""Stage cards: data/attacks, data/verdict, data/report -> metrics/cards."""

from pathlib import Path

from pipeline.runtime.cli import run_stage


def main() -> None:
    """A picture for each model's card in the report, metrics/cards/DATASET/METHOD.png: accuracy against eps, what each attack
    broke, noise, features, worst examples; from data/attacks, data/verdict and data/report."""
    from pipeline.reporting.run import read_run
    from pipeline.reporting.verdict.cards import save_cards

    save_cards(read_run(Path("data/items/cards.yaml")), Path("data"), Path("metrics/cards"))


if __name__ == "__main__":
    run_stage(main)
