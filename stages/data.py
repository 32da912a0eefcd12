"""Stage data: python -m stages.data DATASET."""

import json
from pathlib import Path

from pipeline.runtime.cli import run_stage


def main(dataset: str) -> None:
    """Reads a data set from its source, samples it, takes the validation split and writes data/DATASET.npz,
    metrics/data/DATASET.json (counts, mean, std) and metrics/data/DATASET.png (images by class)."""
    from pipeline.data.checks import warn_of_doubles
    from pipeline.data.contact_sheet import contact_sheet
    from pipeline.data.image_set import save_splits
    from pipeline.data.sources import SOURCES
    from pipeline.data.splits import Sample, make_splits, summarise
    from pipeline.params.items import DataItem, read_item

    item = read_item(DataItem, dataset, "data")
    train, test, classes = SOURCES[item.source.name](**item.source.options)
    warn_of_doubles(dataset, (train.images, train.labels), (test.images, test.labels))
    sample = Sample(train=item.sample.train, test=item.sample.test, seed=item.sample.seed)
    splits = make_splits(train, test, classes, **item.validation.model_dump(), sample=sample)
    summary, sheet = summarise(splits), contact_sheet(splits.train, splits.classes)

    metrics = Path("metrics/data")
    metrics.mkdir(parents=True, exist_ok=True)
    save_splits(f"data/{dataset}.npz", splits)
    (metrics / f"{dataset}.json").write_text(json.dumps(summary, indent=2) + "\n")
    (metrics / f"{dataset}.png").write_bytes(sheet)
    print(f"{dataset}: {summary['images']}, shape {summary['shape']}, {len(splits.classes)} classes")


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
