"""Stage planes: python -m stages.planes DATASET METHOD."""

from pipeline.runtime.cli import run_stage


def main(dataset: str, method: str) -> None:
    """Trains a method with a penultimate layer of two units (pcl figures 1 and 6). Writes data/planes/DATASET/METHOD.npz. Killed,
    it goes on from its last epoch."""
    from pipeline.jobs.planes import train_plane
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.schema import load_params
    from pipeline.runtime.distributed import process_group

    with process_group():
        train_plane(load_params(lookups=LOOKUPS), dataset, method)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets", method="a name in params.yaml, methods")
