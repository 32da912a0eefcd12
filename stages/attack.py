"""Stage attack: python -m stages.attack DATASET METHOD SEED."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, method: str, seed: int) -> None:
    """Attacks one model: the attacks of the papers at every eps of the data set, and what the method's `measure` names. Writes
    outcomes by image, features and adversarial images to data/attacks/DATASET/METHOD/SEED.

    Then the verdict: AutoAttack and attacks with knowledge of the prototypes, and signs of masked gradients. Writes outcomes by
    image, measurements and the worst images to data/verdict/DATASET/METHOD/SEED. A killed run resumes after its last attack."""
    from pipeline.jobs.attack import attack_model
    from pipeline.params.items import AttackItem, read_item
    from pipeline.params.merge import tracking_or_none
    from pipeline.runtime.distributed import process_group
    from pipeline.tracking.store import Settings

    with process_group():
        attack_model(read_item(AttackItem, dataset, "attack", method), seed, Settings(**tracking_or_none()))


if __name__ == "__main__":
    run_stage(
        main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods", seed="an integer, 0 or more"
    )
