"""Stage data: python -m stages.data DATASET."""

import json
from pathlib import Path

from pipeline.data.contact_sheet import contact_sheet
from pipeline.data.image_set import save_splits
from pipeline.data.sources import SOURCES
from pipeline.data.splits import make_splits, summarise
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params, pick
from pipeline.runtime.cli import run_stage


def main(name: str) -> None:
    """Reads a data set from its source, takes the validation split and writes data/DATASET.npz, metrics/data/DATASET.json (counts,
    mean, std) and metrics/data/DATASET.png (images by class)."""
    dataset = pick(load_params(lookups=LOOKUPS).datasets, name, "dataset")
    train, test, classes = SOURCES[dataset.source.name](**dataset.source.options)
    splits = make_splits(train, test, classes, **dataset.validation.model_dump())
    summary, sheet = summarise(splits), contact_sheet(splits.train, splits.classes)

    metrics = Path("metrics/data")
    metrics.mkdir(parents=True, exist_ok=True)
    save_splits(f"data/{name}.npz", splits)
    (metrics / f"{name}.json").write_text(json.dumps(summary, indent=2) + "\n")
    (metrics / f"{name}.png").write_bytes(sheet)
    print(f"{name}: {summary['images']}, shape {summary['shape']}, {len(splits.classes)} classes")


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
