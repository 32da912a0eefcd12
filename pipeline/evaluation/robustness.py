"""What each attack does to each image."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from pipeline.attacks.steps import evaluating
from pipeline.models.network import Network

Attack = Callable[..., Tensor]  # (model, x, y, eps, *, generator) -> x_adv


class Trial(NamedTuple):
    """One attack at one strength, as a row of the tables names it, on all images or the first `images`. `eps` is the constant c
    for C&W, which has no bound."""

    attack: str
    eps: float
    run: Attack
    batch_size: int
    images: int | None = None


def trials(attacks: Mapping[str, Attack], eps: Sequence[float], batch_size: int, images: int | None = None) -> list[Trial]:
    """Every attack at every eps."""
    return [Trial(name, value, attack, batch_size, images) for name, attack in attacks.items() for value in eps]


def noise_trials(
    mim: Attack, *, eps: float, steps: int, rel_step_size: float, decay: float, stop: Sequence[str], batch_size: int
) -> list[Trial]:
    """The noise measurement of hcp table 3 by each stop rule: MIM with no bound but the image range, until the model is wrong."""
    return [
        Trial(f"noise_{rule}", eps, partial(mim, steps=steps, rel_step_size=rel_step_size, decay=decay, stop=rule), batch_size)
        for rule in stop
    ]


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, plan: Sequence[Trial], *, seed: int, keep: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Runs every trial of `plan` on its images, and none at all as `clean`. images: (N, C, H, W) in [0, 1], labels: (N,).

    Returns one row per trial and image (image, label, attack, eps, prediction, correct, and linf, l2 and mse of the perturbation,
    mse being the mean over pixels) and the first `keep` adversarial images of each trial, float32, by "<attack>@<eps>".
    Each trial draws from a generator of its own, so that adding one changes no other.
    """
    clean = Trial("clean", 0.0, lambda model, x, y, eps, generator: x, max(trial.batch_size for trial in plan))
    everything = [clean, *plan]
    frames, kept = [], {}
    with progress(sum(len(images[: trial.images]) for trial in everything)) as bar:
        for trial in everything:
            x_adv = attacked(model, images, labels, trial, seed=seed, bar=bar)
            prediction = predict(model, x_adv, batch_size=trial.batch_size)
            frames.append(outcome_rows(trial, images[: trial.images], labels[: trial.images], x_adv, prediction))
            kept[f"{trial.attack}@{trial.eps:g}"] = x_adv[:keep].cpu().numpy()
    return pd.concat(frames, ignore_index=True), kept if keep else {}


def progress(total: int) -> "tqdm[NoReturn]":
    """A bar over images; a log file gets a line now and then."""
    return tqdm(total=total, unit="img", file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 20.0)


def attacked(model: nn.Module, images: Tensor, labels: Tensor, trial: Trial, *, seed: int, bar: "tqdm[NoReturn]") -> Tensor:
    """The adversarial images of one trial, (N, C, H, W) or the first of them, from a generator of its own; counted on `bar`."""
    bar.set_description(f"{trial.attack} {trial.eps:g}", refresh=False)
    generator, parts = Generator(images.device).manual_seed(seed), []
    images, labels = images[: trial.images], labels[: trial.images]
    for x, y in zip(images.split(trial.batch_size), labels.split(trial.batch_size), strict=True):
        parts.append(trial.run(model, x, y, trial.eps, generator=generator))
        bar.update(len(x))
    return torch.cat(parts)


def summary_metrics(outcomes: pd.DataFrame) -> dict[str, float]:
    """Accuracy in percent by "accuracy/<attack>_<eps>", and for the noise measurements "mse/<attack>"."""
    summary = {}
    for (attack, eps), group in outcomes.groupby(["attack", "eps"], sort=False):
        if str(attack).startswith("noise_"):
            summary[f"mse/{attack}"] = float(group["mse"].mean())
        else:
            summary[f"accuracy/{attack}_{eps:g}" if eps else f"accuracy/{attack}"] = float(100 * group["correct"].mean())
    return summary


@torch.no_grad()
def clean_features(model: Network, images: Tensor, *, batch_size: int) -> dict[str, np.ndarray]:
    """Features of every layer, {layer: (N, D) float32}, in eval mode. images: (N, C, H, W) in [0, 1]."""
    with evaluating(model):
        parts = [model.forward_features(x)[1] for x in images.split(batch_size)]
    return {layer: torch.cat([part[layer] for part in parts]).cpu().numpy() for layer in parts[0]}


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """(N,) int64, in eval mode. images: (N, C, H, W) in [0, 1]."""
    with evaluating(model):
        return torch.cat([model(x).argmax(1) for x in images.split(batch_size)])


def outcome_rows(
    trial: Trial, images: Tensor, labels: Tensor, x_adv: Tensor, prediction: Tensor, index: Tensor | None = None
) -> pd.DataFrame:
    """A row per image, as `measure` returns them. index: (N,) numbers of the images, where they are not the first N."""
    perturbation = (x_adv - images).flatten(1)  # (N, C * H * W)
    columns = {
        "image": (torch.arange(len(images)) if index is None else index).to(torch.int32),
        "label": labels.to(torch.int16),
        "prediction": prediction.to(torch.int16),
        "correct": prediction == labels,
        "linf": perturbation.abs().amax(1),
        "l2": perturbation.norm(dim=1),
        "mse": perturbation.square().mean(1),
    }
    frame = pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
    frame.insert(2, "attack", trial.attack)
    frame.insert(3, "eps", trial.eps)
    return frame
