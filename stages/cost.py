"""Stage cost: python -m stages.cost DATASET."""

from pipeline.runtime.cli import run_stage


def main(dataset: str) -> None:
    """Times training epochs of the losses, side by side (pcl table 12). Writes data/cost/DATASET.csv."""
    from pipeline.jobs.cost import time_methods
    from pipeline.params.items import CostItem, read_item
    from pipeline.runtime.distributed import process_group

    with process_group():
        time_methods(read_item(CostItem, dataset, "cost"))


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
