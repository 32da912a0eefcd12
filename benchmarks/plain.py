"""A training loop as research code usually has it, such as the releases of the two papers: PIL images through torchvision's
transforms in a DataLoader, float32, channels first, a look at the loss after every step. Timed by benchmarks/training.py."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.data.image_set import ImageSet
from pipeline.models.network import Network


class Pictures(Dataset[tuple[Tensor, int]]):
    """An ImageSet as torchvision's data sets give it: a PIL image at a time, through a transform."""

    def __init__(self, images: ImageSet, transform: transforms.Compose) -> None:
        pixels = images.images.transpose(0, 2, 3, 1)  # (N, H, W, C)
        self.pixels: NDArray[np.uint8] = pixels[..., 0] if pixels.shape[3] == 1 else pixels
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def loader(
    images: ImageSet, mean: Sequence[float], std: Sequence[float], *, batch_size: int, pad: int, flip: bool, workers: int, pin: bool
) -> "DataLoader[tuple[Tensor, int]]":
    """Random order, crop, flip, normalised. pin: memory from which a GPU copies faster."""
    height = images.images.shape[2]
    steps = [
        transforms.RandomCrop(height, padding=pad),
        *([transforms.RandomHorizontalFlip()] if flip else []),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    pictures = Pictures(images, transforms.Compose(steps))
    return DataLoader(pictures, batch_size=batch_size, shuffle=True, num_workers=workers, pin_memory=pin)


def plain_network(network: Network) -> Network:
    """Channels first, and without the first layer, whose work the loader's last transform does. Changes the network it is given."""
    network.set_submodule("normalize", nn.Identity())
    return network.to(memory_format=torch.contiguous_format)


def epoch(
    network: nn.Module, optimizer: SGD, clip: float | None, batches: "DataLoader[tuple[Tensor, int]]", device: torch.device
) -> tuple[float, float]:
    """One pass: the mean loss and the share of right answers in %. clip: the largest norm of the gradient, None for any."""
    network.train()
    loss_sum = right = seen = 0.0
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):  # PyTorch's defaults; the pipeline's own are stricter
        for x, y in batches:
            x, y = x.to(device), y.to(device)
            logits = network(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            loss_sum += loss.item() * len(y)
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
    return loss_sum / seen, 100 * right / seen
