"""Adversarial images made on one model, judged by others (black-box attacks of pcl tables 3 and 13)."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import Tensor, nn

from pipeline.evaluation.robustness import Made, Trial, Victim, attacked, outcome_rows, predict_over_ranks, progress

OUTCOMES = {  # columns of `transfer`
    **{"source": str, "target": str, "image": int, "label": int, "attack": str, "eps": float},
    **{"prediction": int, "correct": bool, "linf": float, "l2": float},
}


def transfer(
    sources: Mapping[str, Victim],
    targets: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    plan: Sequence[Trial],
    *,
    seed: int,
    made: Callable[[str], Made] = lambda source: attacked,
) -> pd.DataFrame:
    """Runs every trial of `plan` once on each source and lets each target judge the images. images: (N, C, H, W) in [0, 1],
    labels: (N,) -> a row per source, trial, target and image: source, target, then as `measure` returns them, without mse.

    Without sources there are no rows. Each trial draws by its own attack's name, so that more of them change no other. made: by
    source what stands in place of `attacked`, such as what keeps finished trials.
    """
    names = (sources, targets, dict.fromkeys(trial.attack for trial in plan))
    by_source, by_target, by_attack = (pd.CategoricalDtype(list(known)) for known in names)  # millions of rows at times
    frames = []
    with progress(len(sources) * sum(len(images[: trial.images]) for trial in plan)) as bar:
        for source, victim in sources.items():
            for trial in plan:
                x, y = images[: trial.images], labels[: trial.images]
                x_adv, _ = made(source)(victim, x, y, trial, seed=seed, bar=bar)
                for target, judge in targets.items():
                    prediction = predict_over_ranks(judge, x_adv, batch_size=trial.batch_size)
                    rows = outcome_rows(trial, x, y, x_adv, prediction)
                    rows = rows.drop(columns="mse")
                    rows.insert(0, "source", source)
                    rows.insert(1, "target", target)
                    frames.append(rows.astype({"source": by_source, "target": by_target, "attack": by_attack}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(OUTCOMES)).astype(OUTCOMES)


def accuracies(outcomes: pd.DataFrame) -> pd.DataFrame:
    """outcomes: of `transfer` -> a row per source, trial and target: source, target, attack, eps, images (how many), accuracy (of
    the target, %)."""
    keys = ["source", "attack", "eps", "target"]
    table = outcomes.groupby(keys, sort=False, observed=True).agg(images=("image", "size"), accuracy=("correct", "mean"))
    table = table.reset_index().astype(dict.fromkeys(("source", "target", "attack"), str))
    return table.assign(accuracy=100 * table["accuracy"])[["source", "target", "attack", "eps", "images", "accuracy"]]
