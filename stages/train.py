"""Stages pretrain, finetune and scratch: python -m stages.train DATASET METHOD SEED."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, method: str, seed: int) -> None:
    """Trains one model: from random weights, or from the softmax model of the same data set and seed if the method's init says so.
    Writes models/DATASET/METHOD/SEED.pt and metrics/training/DATASET/METHOD/SEED.csv. Killed, it goes on from its last epoch."""
    from pipeline.jobs.train import train_model
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.schema import load_params
    from pipeline.runtime.distributed import process_group

    with process_group():
        train_model(load_params(lookups=LOOKUPS), dataset, method, seed)


if __name__ == "__main__":
    run_stage(
        main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods", seed="an integer, 0 or more"
    )
