"""Stages pretrain, finetune and sources: python -m stages.train DATASET METHOD SEED."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, method: str, seed: int) -> None:
    """Trains one model: from random weights, or from the softmax model of the same data set and seed if the method's init says so.
    Writes models/DATASET/METHOD/SEED.pt, .csv (its curves) and .json. A killed run resumes after its last epoch."""
    from pipeline.jobs.train import train_model
    from pipeline.params.items import TrainItem, read_item
    from pipeline.params.merge import tracking_or_none
    from pipeline.runtime.distributed import process_group
    from pipeline.tracking.store import Settings

    with process_group():
        train_model(read_item(TrainItem, dataset, "train", method), seed, Settings(**tracking_or_none()))


if __name__ == "__main__":
    run_stage(
        main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods", seed="an integer, 0 or more"
    )
