"""What a training step minimises: cross entropy plus a loss on each of some feature layers (hcp section 4, pcl eq. 8-10)."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.runtime.distributed import gather_rows, part_sizes
from pipeline.training.trades import divergence


class Criterion(nn.Module):
    """images (B, C, H, W), logits (B, K), features {layer: (B, D)}, y (B,), weight (B,) -> {"ce": (), "<loss>[<layer>]": (), ...},
    each term summed over the images by weight. With several ranks `images` are those of this rank's part, all else is of the whole
    batch, and so are the terms.

    Holds the prototypes (in `losses`) and the linear classifiers of the auxiliary branches (`heads`), neither of which the network
    needs to predict. Besides the network's layers a loss can be on `logits`. Weights: `cross_entropy` of the CE term, which is left
    out at 0, and `input_gradient` of |d CE / d x|^2 over the pixels (Ross & Doshi-Velez, AAAI 2018, eq. 5), for which the images
    must have `requires_grad` before the network sees them.

    With `trades` (beta, 1 / lambda of arXiv:1901.08573, eq. 5) the batch must be clean images and then their adversarial ones: the
    CE term is then the mean over the clean half, and beta times the mean divergence of each one's prediction from its image's is
    added; `weight` plays no part in these two. All other terms are on both halves, as they are without.
    MODIFIED: both halves go through the network at once, so batch norm takes its statistics over both; the authors' code has two
    passes.
    """

    def __init__(
        self,
        losses: Mapping[str, nn.Module],
        heads: Mapping[str, nn.Module],
        name: str,
        cross_entropy: float,
        input_gradient: float,
        trades: float,
    ) -> None:
        super().__init__()
        self.losses, self.heads = nn.ModuleDict(losses), nn.ModuleDict(heads)
        self.cross_entropy, self.input_gradient, self.trades = cross_entropy, input_gradient, trades
        self.terms = [
            *(["ce"] if cross_entropy else []),
            *(["trades"] if trades else []),
            *(f"{name}[{layer}]" for layer in losses),
            *(f"ce[{layer}]" for layer in heads),
            *(["input_gradient"] if input_gradient else []),
        ]

    def forward(self, x: Tensor, logits: Tensor, features: Mapping[str, Tensor], y: Tensor, weight: Tensor) -> dict[str, Tensor]:
        features = {**features, "logits": logits}
        ce = F.cross_entropy(logits, y, reduction="none")
        images = [loss(features[layer], y) for layer, loss in self.losses.items()]  # (B,) each
        images += [F.cross_entropy(head(features[layer]), y, reduction="none") for layer, head in self.heads.items()]
        if self.input_gradient:
            gradient = torch.autograd.grad(ce.sum(), x, create_graph=True)[0]
            images.append(gather_rows(self.input_gradient * gradient.square().sum(dim=(1, 2, 3)), part_sizes(len(y))))
        if self.trades:
            if len(y) % 2:
                raise ValueError(f"trades: the batch must be clean images and then as many attacked ones, got {len(y)} images")
            clean, attacked = logits.chunk(2)
            values = [self.cross_entropy * ce[: len(clean)].mean(), self.trades * divergence(clean, attacked).mean()]
        else:
            values = [(weight * (self.cross_entropy * ce)).sum()] if self.cross_entropy else []
        values += [(weight * value).sum() for value in images]
        return dict(zip(self.terms, values, strict=True))

    def layers(self) -> set[str]:
        """Those that a loss is on."""
        return {*self.losses, *self.heads}

    def prototypes(self) -> dict[str, list[nn.Parameter]]:
        """Prototype parameters of all layers by their name in the loss, e.g. {"centres": [...], "radii": [...]}."""
        groups: dict[str, list[nn.Parameter]] = {}
        for loss in self.losses.values():
            for name, parameter in loss.named_parameters():
                groups.setdefault(name, []).append(parameter)
        return groups


def build_criterion(
    loss: Callable[[int, int], nn.Module] | None,
    *,
    name: str,
    layers: Sequence[str],
    auxiliary: Sequence[str],
    dims: Mapping[str, int],
    classes: int,
    cross_entropy: float,
    input_gradient: float,
    trades: float,
) -> Criterion:
    """A `loss(classes, dim)`, called `name`, on each of `layers`, None for none, and a linear classifier on each of `auxiliary`;
    `dims`: the network's feature widths. Raises ValueError for a layer that is neither the network's nor `logits`."""
    dims = {**dims, "logits": classes}
    unknown = [layer for layer in dict.fromkeys([*layers, *auxiliary]) if layer not in dims]
    if unknown:
        raise ValueError(f"layers: the network has no {', '.join(unknown)}, choose from {', '.join(dims)}")
    losses = {} if loss is None else {layer: loss(classes, dims[layer]) for layer in layers}
    heads = {layer: nn.Linear(dims[layer], classes) for layer in auxiliary}
    return Criterion(losses, heads, name, cross_entropy, input_gradient, trades)
