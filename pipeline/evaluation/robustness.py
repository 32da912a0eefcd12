"""Runs attacks on a model and records the outcome of each image."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from pipeline.attacks.objective import lead
from pipeline.attacks.steps import evaluating
from pipeline.models.folded import CLOSE, Folded
from pipeline.models.given.network import Given
from pipeline.models.half import Half
from pipeline.models.network import Network
from pipeline.models.replayed import replayed
from pipeline.runtime.distributed import map_over_ranks

Attack = Callable[..., Tensor]  # (model, x, y, eps, *, generator, batch_size, done) -> x_adv
Made = Callable[..., tuple[Tensor, Tensor]]  # as `attacked`
ROUNDING = {"fp32": 10 * CLOSE, "bf16": 0.25}  # generous: small_cnn's adversarial images differ by 0.02 at most in bf16
BATCHES_AT_ONCE = 4  # an attack gets this many batches, so that it can refill a batch when some of its samples are done


class Trial(NamedTuple):
    """One attack at one strength, under the name that it has in the tables, on all images or the first `images`. For C&W, which has
    no bound, `eps` is its constant c. `batch_size`: images in one forward pass."""

    attack: str
    eps: float
    run: Attack
    batch_size: int
    images: int | None = None


class Victim(NamedTuple):
    """A model, and a faster twin on which attacks work: batch norm folded into the convolutions, in bf16 if wanted. Their logits
    agree up to rounding. Whether an image is adversarial is decided by the model itself, in fp32.

    rounding: a margin, as a share of the range of an image's logits. Where the model prefers the label by more than this, the twin
    prefers it too."""

    model: nn.Module
    twin: nn.Module
    rounding: float = 1.0


def attackable(model: nn.Module, x: Tensor, precision: Literal["fp32", "bf16"] = "fp32") -> Victim:
    """The model with a twin made from its present weights. x: some images (B, C, H, W), for one forward pass; precision: of the
    attacks.

    A Given model is never recorded as a CUDA graph, since a graph replays what its Python code did once. It is attacked as it is
    where its batch norm cannot be folded, and where a convolution is one of its named layers: folded, that one would answer with
    what the batch norm behind it makes."""
    try:
        folded = Folded(model, x[:2])
        twin = folded.now() if folded.pairs and not (isinstance(model, Given) and model.reads(nn.Conv2d)) else model
    except Exception:  # the code is not ours, and cannot be copied or hooked
        if not isinstance(model, Given):
            raise
        twin = model
    twin = Half(twin) if precision == "bf16" else twin
    if isinstance(model, Given):
        return Victim(model, twin, ROUNDING[precision])
    own = replayed(model, x.device)
    return Victim(own, own if twin is model else replayed(twin, x.device), ROUNDING[precision])


def trials(attacks: Mapping[str, Attack], eps: Sequence[float], batch_size: int, images: int | None = None) -> list[Trial]:
    """Every attack at every eps."""
    return [Trial(name, value, attack, batch_size, images) for name, attack in attacks.items() for value in eps]


def noise_trials(
    mim: Attack, *, eps: float, steps: int, rel_step_size: float, decay: float, stop: Sequence[str], batch_size: int
) -> list[Trial]:
    """The noise measurement of hcp table 3, for each stop rule: MIM without a bound besides the image range, until the model
    errs."""
    return [
        Trial(f"noise_{rule}", eps, partial(mim, steps=steps, rel_step_size=rel_step_size, decay=decay, stop=rule), batch_size)
        for rule in stop
    ]


def measure(
    victim: Victim, images: Tensor, labels: Tensor, plan: Sequence[Trial], *, seed: int, keep: int, made: Made | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Runs every trial of `plan`, and `clean`, which is no attack. images: (N, C, H, W) in [0, 1], labels: (N,).

    Returns one row per trial and image (image, label, attack, eps, prediction, correct, and linf, l2 and mse of the perturbation,
    mse being the mean over pixels) and the first `keep` adversarial images of each trial, float32, by "<attack>@<eps>".
    Each trial draws by its own attack's name, so adding a trial does not change the others. made: in place of `attacked`, such as
    what keeps finished trials.
    """
    clean = Trial("clean", 0.0, lambda *_: images, max(trial.batch_size for trial in plan))
    prediction = predict_over_ranks(victim.model, images, batch_size=clean.batch_size)
    frames, kept = [outcome_rows(clean, images, labels, images, prediction)], {"clean@0": images[:keep].cpu().numpy()}
    with progress(sum(len(images[: trial.images]) for trial in plan)) as bar:
        for trial in plan:
            x, y = images[: trial.images], labels[: trial.images]
            x_adv, prediction = (made or attacked)(victim, x, y, trial, seed=seed, bar=bar)
            frames.append(outcome_rows(trial, x, y, x_adv, prediction))
            kept[f"{trial.attack}@{trial.eps:g}"] = x_adv[:keep].cpu().numpy()
    return pd.concat(frames, ignore_index=True), kept if keep else {}


def progress(total: int) -> "tqdm[NoReturn]":
    """A bar over images; a log file gets a line now and then."""
    return tqdm(total=total, unit="img", file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 20.0)


def attacked(
    victim: Victim, images: Tensor, labels: Tensor, trial: Trial, *, seed: int, bar: "tqdm[NoReturn]"
) -> tuple[Tensor, Tensor]:
    """The adversarial images of one trial, (N, C, H, W), and the model's predictions, (N,); `bar` shows the progress. The ranks
    share the work; each group of BATCHES_AT_ONCE batches has draws of its own, the same at every eps. Images that fool the twin but
    not the model are attacked again on the model itself."""
    bar.set_description(f"{trial.attack} {trial.eps:g}", refresh=False)
    images, labels = images[: trial.images], labels[: trial.images]
    (model, twin, rounding), size, counted = victim, trial.batch_size, bar.n
    xs, ys = images.split(BATCHES_AT_ONCE * size), labels.split(BATCHES_AT_ONCE * size)

    def work(number: int) -> tuple[Tensor, Tensor]:
        x, y = xs[number], ys[number]
        run = partial(trial.run, generator=_generator(x.device, seed, trial.attack, number), batch_size=size)
        x_adv = run(twin, x, y, trial.eps, done=_whole(bar))
        logits = predict_logits(model, x_adv, batch_size=size)
        prediction = logits.argmax(1)
        if twin is model:
            return x_adv, prediction
        close = lead(logits, y) > -rounding * (logits.amax(1) - logits.amin(1))
        doubtful = ((prediction == y) & close).nonzero()[:, 0]
        if len(doubtful):
            doubtful = doubtful[predict(twin, x_adv[doubtful], batch_size=size) != y[doubtful]]
        if len(doubtful):
            x_adv[doubtful] = run(model, x[doubtful], y[doubtful], trial.eps)
            prediction[doubtful] = predict(model, x_adv[doubtful], batch_size=size)
        return x_adv, prediction

    made, predictions = map_over_ranks(work, [len(x) for x in xs], (images[:0], labels[:0]))
    bar.update(len(images) - (bar.n - counted))  # images of the other ranks
    return made, predictions


def _generator(device: torch.device, *key: int | str) -> Generator:
    """Seeded by a hash of the whole key: a CPU generator uses only 32 bits of a seed."""
    return Generator(device).manual_seed(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4]))


def _whole(bar: "tqdm[NoReturn]") -> Callable[[float], None]:
    """Adds up fractions of images and moves the bar by whole images."""
    seen, start = 0.0, bar.n

    def done(count: float) -> None:
        nonlocal seen
        seen += count
        bar.update(round(seen) - (bar.n - start))

    return done


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
    """Features of every layer, {layer: (N, D) float32}, in eval mode; the logits of a model that has no layers. images: (N, C, H,
    W) in [0, 1]."""
    with evaluating(model):
        seen = [model.forward_features(x) for x in images.split(batch_size)]
    parts = [features or {"logits": logits} for logits, features in seen]
    return {layer: torch.cat([part[layer] for part in parts]).cpu().numpy() for layer in parts[0]}


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """(N,) int64, in eval mode. images: (N, C, H, W) in [0, 1]."""
    return predict_logits(model, images, batch_size=batch_size).argmax(1)


@torch.no_grad()
def predict_logits(model: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """Logits (N, K), in eval mode. images: (N, C, H, W) in [0, 1]."""
    with evaluating(model):
        return torch.cat([model(x) for x in images.split(batch_size)])


def predict_over_ranks(model: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """`predict` by all ranks together."""
    parts = images.split(batch_size)
    none = torch.zeros(0, dtype=torch.int64, device=images.device)
    return map_over_ranks(lambda number: (predict(model, parts[number], batch_size=batch_size),), [len(x) for x in parts], (none,))[
        0
    ]


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
