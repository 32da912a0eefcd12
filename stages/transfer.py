"""Stage transfer: python -m stages.transfer DATASET SEED."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, seed: int) -> None:
    """Makes adversarial images on each of the transfer sources and evaluates them on every method of the run (pcl tables 3 and 13).
    Writes data/transfer/DATASET/SEED.csv, and SEED.parquet by image."""
    from pipeline.jobs.transfer import transfer_attacks
    from pipeline.params.items import TransferItem, read_item
    from pipeline.runtime.distributed import process_group

    with process_group():
        transfer_attacks(read_item(TransferItem, dataset, "transfer"), seed)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets", seed="an integer, 0 or more")
