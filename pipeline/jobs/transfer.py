"""Stage transfer: adversarial images of some models shown to all (pcl table 3, right half, and table 13)."""

from pathlib import Path

from pipeline.data.image_set import load_splits
from pipeline.evaluation.robustness import attackable, trials
from pipeline.evaluation.transfer import transfer
from pipeline.jobs.attack import cw_trials, linf_attacks
from pipeline.jobs.learner import load_model, test_images
from pipeline.params.schema import Dataset, Params, pick
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path


def transfer_attacks(params: Params, dataset: str, seed: int) -> None:
    """Writes data/transfer/DATASET/SEED.csv: accuracy in % of every method of the run, and of every source, on the images that each
    attack at the headline strength makes on each of transfer.sources."""
    data: Dataset = pick(params.datasets, dataset, "dataset")
    evaluation, device = data.evaluation, set_up_device(params.compute.device, params.compute.threads)
    images, labels = test_images(data, load_splits(f"data/{dataset}.npz"), device)
    names = dict.fromkeys([*params.transfer.sources, *params.run.methods])
    models = {name: load_model(f"models/{dataset}/{name}/{seed}.pt", device)[0] for name in names}
    plan = trials(linf_attacks(params), [data.headline_eps], evaluation.batch_size)
    plan += cw_trials(params, evaluation, [data.headline_c])
    sources = {name: attackable(models[name], images, params.compute.attack_precision) for name in params.transfer.sources}
    table = transfer(sources, models, images, labels, plan, seed=seed)
    if is_main():
        with atomic_path(Path("data/transfer", dataset, f"{seed}.csv")) as path:
            table.round(4).to_csv(path, index=False)
    print(f"{dataset} {seed}: {len(sources)} sources, {len(models)} targets")
