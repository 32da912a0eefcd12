"""Stage transfer: python -m stages.transfer DATASET SEED."""

from pipeline.cli import run_stage


def main(dataset: str, seed: int) -> None:
    """Makes adversarial images on each of transfer.sources and shows them to every method of the run (pcl tables 3 and 13). Writes
    data/transfer/DATASET/SEED.csv."""
    from pipeline.config import load_params
    from pipeline.distributed import process_group
    from pipeline.jobs.transfer import transfer_attacks
    from pipeline.lookups import LOOKUPS

    with process_group():
        transfer_attacks(load_params(lookups=LOOKUPS), dataset, seed)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets", seed="an integer, 0 or more")
