"""Stage cost: python -m stages.cost DATASET."""

from pipeline.runtime.cli import run_stage


def main(dataset: str) -> None:
    """Times training epochs of cost.methods (pcl table 12). Writes data/cost/DATASET.csv."""
    from pipeline.jobs.cost import time_methods
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.schema import load_params
    from pipeline.runtime.distributed import process_group

    with process_group():
        time_methods(load_params(lookups=LOOKUPS), dataset)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
