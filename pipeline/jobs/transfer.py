"""Stage transfer: adversarial images made on some models, evaluated on all (pcl table 3, right half, and table 13)."""

from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import attackable, trials
from pipeline.evaluation.transfer import accuracies, transfer
from pipeline.jobs.trained import model_of, test_images
from pipeline.jobs.trials import attacked_once, cw_trials, named_attacks
from pipeline.params.items import TransferItem, item_file
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import check_same, is_main
from pipeline.runtime.files import atomic_path, content_key
from pipeline.runtime.unfinished import unfinished_work


def transfer_attacks(item: TransferItem, seed: int) -> None:
    """Writes data/transfer/DATASET/SEED.parquet: what every method of the run, and every source, makes of each image that each
    attack makes on each source; and SEED.csv, accuracies in %. A killed run goes on after the last attack that was done."""
    dataset, device = item.dataset, set_up_device(item.compute.device, item.compute.threads)
    images_file = Path("data", f"{dataset}.npz")
    splits = load_splits(images_file)
    images, labels = test_images(splits, item.images, device)
    models = {name: model_of(dataset, name, seed, splits, device)[0] for name in item.targets}
    plan = trials(named_attacks(item.attacks), [item.eps], item.batch_size)
    plan += cw_trials(item.cw, [item.c], item.batch_size, item.cw_images)
    sources = {name: attackable(models[name], images, item.compute.precision) for name in item.sources}
    files = [Path("models", dataset, name, f"{seed}.pt") for name in item.sources]
    key = content_key([item_file(dataset, "transfer"), images_file, *files], seed, device.type)
    check_same("what is attacked", key)
    with unfinished_work("transfer", dataset, seed, key=key) as unfinished:
        outcomes = transfer(
            sources,
            models,
            images,
            labels,
            plan,
            seed=seed,
            made=lambda source: partial(attacked_once, folder=unfinished / source),
        )
        _write(dataset, seed, outcomes)
    print(f"{dataset} {seed}: {len(sources)} sources, {len(models)} targets")


def _write(dataset: str, seed: int, outcomes: pd.DataFrame) -> None:
    if is_main():
        with atomic_path(Path("data/transfer", dataset, f"{seed}.parquet")) as path:
            outcomes.assign(dataset=dataset, seed=seed).astype({"dataset": "category"}).to_parquet(
                path, index=False, write_page_checksum=True
            )
        with atomic_path(Path("data/transfer", dataset, f"{seed}.csv")) as path:
            accuracies(outcomes).assign(dataset=dataset, seed=seed).round(4).to_csv(path, index=False)
