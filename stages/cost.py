"""Stage cost: python -m stages.cost DATASET."""

from pipeline.cli import run_stage


def main(dataset: str) -> None:
    """Times training epochs of cost.methods (pcl table 12). Writes data/cost/DATASET.csv."""
    from pipeline.config import load_params
    from pipeline.distributed import process_group
    from pipeline.jobs.cost import time_methods
    from pipeline.lookups import LOOKUPS

    with process_group():
        time_methods(load_params(lookups=LOOKUPS), dataset)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
