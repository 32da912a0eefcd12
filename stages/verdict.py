"""Stage verdict: python -m stages.verdict DATASET METHOD SEED."""

from pipeline.cli import run_stage
from pipeline.config import load_params
from pipeline.distributed import process_group
from pipeline.jobs.verdict import judge_model
from pipeline.lookups import LOOKUPS


def main(dataset: str, method: str, seed: int) -> None:
    """Attacks one model with AutoAttack and by one who knows the defence, at the data set's headline eps, and looks for signs of
    masked gradients. Writes outcomes by image, measurements and the worst images to data/verdict/DATASET/METHOD/SEED."""
    with process_group():
        judge_model(load_params(lookups=LOOKUPS), dataset, method, seed)


if __name__ == "__main__":
    run_stage(
        main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods", seed="an integer, 0 or more"
    )
