"""The worst case of several attacks per image: one after the other on the images that are still active (not yet misclassified), as
AutoAttack does (Croce and Hein, arXiv:2003.01690, section 6), or all of them on every image."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.attacks.steps import evaluating
from pipeline.evaluation.robustness import Trial, outcome_rows

Run = Callable[[Trial, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(trial, x (B, C, H, W), y (B,)) -> x_adv and what the model makes of it (B,). It runs the trial, or brings what
it has made before."""


def worst_case_in_sequence(
    name: str,
    images: Tensor,
    labels: Tensor,
    prediction: Tensor,
    parts: Sequence[Trial],
    run: Run,
    *,
    confirm: Sequence[Trial] = (),
    stands: Callable[[Tensor, Tensor], Tensor] = torch.eq,
) -> tuple[pd.DataFrame, Tensor]:
    """Runs each part on the images that earlier parts did not break; then, if accuracy is above chance, those of `confirm`.
    images: (N, C, H, W) in [0, 1], labels: (N,); prediction: (N,) what the model makes of the images as they are.

    Returns rows as `measure` does, of each part those of the images it ran on, then a row per image under `name`, which holds what
    the part that broke it did, or the last part where none has; and the images (N, C, H, W) of these. Each part has one eps.
    stands: of predictions and labels, which images are not broken.
    """
    x_worst, active = images.clone(), torch.arange(len(images), device=images.device)
    last = outcome_rows(parts[0], images, labels, images, prediction)
    frames = []
    chance = int(labels.bincount().max())
    for part in [*parts, *confirm]:
        active = active[stands(prediction, labels[active])]
        if not len(active) or (part in confirm[:1] and len(active) <= chance):
            break
        x, y = images[active], labels[active]
        x_adv, prediction = run(part, x, y)
        frames.append(outcome_rows(part, x, y, x_adv, prediction, active))
        x_worst[active] = x_adv
    worst = pd.concat([last, *frames]).drop_duplicates("image", keep="last").sort_values("image").assign(attack=name)
    return pd.concat([*frames, worst], ignore_index=True), x_worst


def worst_case_of_all(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """rows: as `measure` returns them, of attacks on the same images -> a row per image under `name`: the first in which the model
    is wrong, or the first there is."""
    worst = rows.sort_values("correct", kind="stable").drop_duplicates("image").sort_values("image", kind="stable")
    return worst.assign(attack=name).reset_index(drop=True)


@torch.no_grad()
def worst_examples(
    model: nn.Module, images: Tensor, labels: Tensor, x_worst: Tensor, rows: pd.DataFrame, *, count: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Up to `count` images that an attack has broken, those first where the model is surest of the wrong class. rows, x_worst: what
    `worst_case_in_sequence` returns for `images` (N, C, H, W) and `labels` (N,). Returns, with E of them: image (E,), clean and
    adversarial (E, C, H, W) float32, label, prediction, confidence in it (0 to 1) and attack, all (E,)."""
    broken = rows[~rows["correct"] & (rows["linf"] > 0) & rows["attack"].str.contains("/")].set_index("image")["attack"]
    index = torch.tensor(broken.index.to_numpy(np.int64), device=images.device)
    if len(index):
        with evaluating(model):
            logits = torch.cat([model(x) for x in x_worst[index].split(batch_size)])
        confidence, prediction = logits.softmax(1).max(1)
    else:
        confidence, prediction = x_worst.new_zeros(0), labels[:0]
    order = confidence.argsort(descending=True, stable=True)[:count]
    index = index[order]
    return {
        "image": index.cpu().numpy(),
        "clean": images[index].float().cpu().numpy(),
        "adversarial": x_worst[index].float().cpu().numpy(),
        "label": labels[index].cpu().numpy(),
        "prediction": prediction[order].cpu().numpy(),
        "confidence": confidence[order].float().cpu().numpy(),
        "attack": broken.iloc[order.cpu().numpy()].to_numpy(str),
    }
