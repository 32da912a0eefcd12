"""Stage settings: params.yaml -> metrics/settings/DATASET."""

from pathlib import Path

import yaml

from pipeline.params.items import item_settings
from pipeline.params.schema import load_params, pick
from pipeline.runtime.cli import run_stage


def main(dataset: str) -> None:
    """Writes metrics/settings/DATASET/SCRIPT/METHOD.yaml, and SCRIPT.yaml where methods are no items: the params that one item of a
    stage hangs on. It depends on this file."""
    pick(load_params().datasets, dataset, "dataset")
    for item, text in item_settings(yaml.safe_load(Path("params.yaml").read_text()), dataset).items():
        file = Path("metrics/settings", dataset, f"{item}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    run_stage(main, dataset="a name in params.yaml, datasets")
