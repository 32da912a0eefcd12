"""Stage planes: python -m stages.planes DATASET."""

from pipeline.runtime.cli import run_stage


def main(dataset: str) -> None:
    """Trains methods with a penultimate layer of two units (pcl figures 1 and 6). Writes data/planes/DATASET/METHOD.npz. A killed
    run resumes after its last epoch."""
    from pipeline.jobs.planes import train_planes
    from pipeline.params.items import PlanesItem, read_item
    from pipeline.runtime.distributed import process_group

    with process_group():
        train_planes(read_item(PlanesItem, dataset, "planes"))


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
