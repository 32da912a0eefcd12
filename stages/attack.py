"""Stage attack: python -m stages.attack DATASET METHOD SEED."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, method: str, seed: int) -> None:
    """Attacks one model with every attack of run.attacks at every eps of the data set, and as params.yaml, measure, says: with C&W,
    at further eps, with what knows the prototypes, with as much noise as it takes. Writes outcomes by image, features and
    adversarial images to data/attacks/DATASET/METHOD/SEED.

    Then the verdict: AutoAttack and one who knows the defence, at the data set's headline eps, and signs of masked gradients.
    Writes outcomes by image, measurements and the worst images to data/verdict/DATASET/METHOD/SEED."""
    from pipeline.jobs.attack import attack_model
    from pipeline.jobs.verdict import judge_model
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.schema import load_params
    from pipeline.runtime.distributed import process_group

    with process_group():
        params = load_params(lookups=LOOKUPS)
        attack_model(params, dataset, method, seed)
        judge_model(params, dataset, method, seed)


if __name__ == "__main__":
    run_stage(
        main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods", seed="an integer, 0 or more"
    )
