"""Adversarial images made on one model, judged by others (black-box attacks of pcl tables 3 and 13)."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor, nn

from pipeline.evaluation.robustness import Trial, Victim, attacked, predict_over_ranks, progress


def transfer(
    sources: Mapping[str, Victim],
    targets: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    plan: Sequence[Trial],
    *,
    seed: int,
) -> pd.DataFrame:
    """Runs every trial of `plan` once on each source and lets each target judge the images. images: (N, C, H, W) in [0, 1],
    labels: (N,) -> a row per source, trial and target: source, target, attack, eps, images (how many), accuracy (of the target, %).

    Each trial draws from a generator of its own, so that more of them change no other.
    """
    rows = []
    with progress(len(sources) * sum(len(images[: trial.images]) for trial in plan)) as bar:
        for source, victim in sources.items():
            for trial in plan:
                x_adv, _ = attacked(victim, images, labels, trial, seed=seed, bar=bar)
                for target, judge in targets.items():
                    right = predict_over_ranks(judge, x_adv, batch_size=trial.batch_size) == labels[: trial.images]
                    rows.append((source, target, trial.attack, trial.eps, len(x_adv), 100 * right.double().mean().item()))
    return pd.DataFrame(rows, columns=["source", "target", "attack", "eps", "images", "accuracy"])
