"""Small networks on the digits, plain and adversarially trained, and defences that only hide the gradient of one."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.models.network import Features, Network
from pipeline.models.small_cnn import SmallCNN

EPS = 0.15
TRAIN = 1400  # of the 1797 digits


def same(values: Tensor) -> Tensor:
    return values


class Around(nn.Module):
    """A defence that hides a model: `before` its input and `after` its logits."""

    def __init__(self, model: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(self.before(x)))


class Backwards(torch.autograd.Function):
    """The identity, whose gradient leads the wrong way."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(_: object, grad: Tensor) -> Tensor:
        return -grad


@cache
def pixels() -> tuple[Tensor, Tensor]:
    """1600 digits (1600, 1, 8, 8) in [0, 1] and their labels."""
    bunch = load_digits()
    return torch.from_numpy(bunch.images[:1600, None]).float() / 16, torch.from_numpy(bunch.target[:1600].astype(np.int64))


def small(**changes: Any) -> SmallCNN:
    images, _ = pixels()
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    return SmallCNN(10, mean, std, **{"widths": [8, 16, 16, 32], "branch": 8, "penultimate": 32} | changes)


def fit(epochs: int, *, adversarial: bool, change: Callable[[SmallCNN], Network] | None = None) -> tuple[Network, Tensor, Tensor]:
    """A small network on 1400 digits, and the 200 digits after those. change: of the network, before it is trained."""
    images, labels = pixels()
    torch.manual_seed(0)
    model: Network = small() if change is None else change(small())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(TRAIN).split(64):
            x, y = images[rows], labels[rows]
            if adversarial:
                x = pgd(model, x, y, EPS, steps=3, rel_step_size=0.5)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval(), images[TRAIN:], labels[TRAIN:]


class Defended(Network):
    """`network` behind a defence: `before` its input, `within` its penultimate features, `after` its logits."""

    def __init__(
        self,
        network: SmallCNN,
        before: Callable[[Tensor], Tensor] = same,
        within: Callable[[Tensor], Tensor] = same,
        after: Callable[[Tensor], Tensor] = same,
    ) -> None:
        super().__init__()
        self.network, self.before, self.within, self.after = network, before, within, after
        self.dims, self.classes = network.dims, network.classes

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        _, features = self.network.forward_features(self.before(x))
        features = {**features, "layer5": self.within(features["layer5"])}
        return self.after(self.network.classifier(features["layer5"])), features


class NearCentre(Network):
    """Near the mean image of a class it answers with that class, always alike; elsewhere as `network`."""

    def __init__(self, network: SmallCNN, radius: float) -> None:
        super().__init__()
        images, labels = (values[:TRAIN] for values in pixels())
        self.network, self.radius, self.dims, self.classes = network, radius, network.dims, network.classes
        self.means = torch.stack([images[labels == label].mean(0).flatten() for label in range(10)])

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        logits, features = self.network.forward_features(x)
        distance, label = torch.cdist(x.flatten(1), self.means.to(x.dtype)).min(1)
        near = (distance < self.radius)[:, None]
        constant = 10 * F.one_hot(label, 10).to(logits.dtype)
        features = {name: torch.where(near, torch.zeros_like(values), values) for name, values in features.items()}
        return torch.where(near, constant, logits), features


class Thermometer(Network):
    """The image as LEVELS planes of pixel > level (Buckman et al., ICLR 2018), then a convolution, then `network`'s layers."""

    LEVELS = 8

    def __init__(self, network: SmallCNN) -> None:
        super().__init__()
        self.network, self.dims, self.classes = network, network.dims, network.classes
        self.mix = nn.Conv2d(self.LEVELS, 1, 1)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        levels = (torch.arange(self.LEVELS, dtype=x.dtype, device=x.device) + 0.5) / self.LEVELS
        planes = (x > levels.view(1, -1, 1, 1)).to(x.dtype)
        return self.network.forward_features(torch.sigmoid(self.mix(planes)))


def dct(size: int = 8) -> Tensor:
    """The orthonormal DCT-II, (size, size)."""
    k = torch.arange(size, dtype=torch.float32)
    matrix = torch.cos(torch.pi * k[:, None] * (2 * k + 1) / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def jpeg(x: Tensor, step: float = 0.5) -> Tensor:
    """Coefficients of the DCT in whole steps, small ones so gone."""
    matrix = dct().to(x)
    coefficients = (matrix @ x @ matrix.T / step).round() * step
    return (matrix.T @ coefficients @ matrix).clamp(0, 1)


def resized(x: Tensor) -> Tensor:
    """Shrunk or not, moved by a pixel, and noise: another each time (as Xie et al., ICLR 2018)."""
    side = int(torch.randint(7, 9, ()))
    small_one = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    left, top = (int(torch.randint(0, 8 - side + 1, ())) for _ in range(2))
    padded = F.pad(small_one, (left, 8 - side - left, top, 8 - side - top))
    return padded + 0.1 * torch.randn_like(padded)


DEFENCES: dict[str, Callable[[SmallCNN], Network]] = {
    "constant near the centres": lambda network: NearCentre(network, radius=1.8),
    "DCT in steps": lambda network: Defended(network, before=jpeg),
    "quantised activations": lambda network: Defended(network, within=lambda z: (z * 1.5).round() / 1.5),
    "random resizing and noise": lambda network: Defended(network, before=resized),
    "detached features": lambda network: Defended(network, within=lambda z: z.detach()),
    "logits times 10000": lambda network: Defended(network, after=lambda logits: 1e4 * logits),
    "probabilities": lambda network: Defended(network, after=lambda logits: (20 * logits).softmax(1)),
    "the answer alone": lambda network: Defended(network, after=lambda z: F.one_hot(z.argmax(1), 10).to(z.dtype)),
    "ranks": lambda network: Defended(network, after=lambda z: z.argsort(1).argsort(1).to(z.dtype)),
    "wrong gradient": lambda network: Defended(network, before=Backwards.apply),
    "quantised pixels": lambda network: Defended(network, before=lambda x: (x * 7).round() / 7),
}
THERMOMETER = partial(fit, 12, adversarial=False, change=Thermometer)
