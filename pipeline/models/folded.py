"""Batch norm folded into convolutions, for attacks: in eval mode it is a linear map, which the convolution before it can do."""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CLOSE = 1e-3  # in parts of the largest logit; the rounding of float32 is some hundred times finer


class Folded:
    """`now()` is a twin of `model` in eval mode whose convolutions do the work of the batch norms behind them: the same function,
    half the passes over memory. All its other weights are the model's own tensors.

    x: some images (B, C, H, W), for one forward that shows which batch norm follows which convolution. Nothing is folded where the
    twin's logits differ from the model's (if it draws noise, say, or uses the output of a convolution twice).
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.twin, self.has_own = model, _twin(model), False
        pairs, logits = _convolution_and_norm(self.twin, x)
        theirs, ours = dict(model.named_modules()), dict(self.twin.named_modules())
        self.pairs: list[tuple[Any, Any, Any]] = [(theirs[name], theirs[norm], ours[name]) for name, norm in pairs]
        for _, norm in pairs:
            self.twin.set_submodule(norm, nn.Identity())
        with torch.no_grad():
            alike = torch.allclose(self.now()(x), logits, rtol=0, atol=CLOSE * float(logits.abs().max()))
        if not alike:
            self.pairs, self.twin = [], _twin(model)

    @torch.no_grad()
    def now(self) -> nn.Module:
        """The twin, with the weights that the model has now."""
        for convolution, norm, twin in self.pairs:
            weight, bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            if self.has_own:  # in place: recorded CUDA graphs refer to it by its address (pipeline/models/replayed.py)
                twin.weight.copy_(weight)
                twin.bias.copy_(bias)
            else:
                twin.weight, twin.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        self.has_own = True
        return self.twin


def _twin(model: nn.Module) -> nn.Module:
    """Modules of its own, the model's tensors."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return deepcopy(model, shared).eval()


@torch.no_grad()
def _convolution_and_norm(model: nn.Module, x: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of the convolutions whose output went straight into a batch norm, with the name of that, each of them used once in the
    forward of x; and the logits."""
    made: dict[int, tuple[str, Tensor]] = {}  # outputs by identity; held, lest another tensor gets it
    pairs, used = [], []

    def convolved(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            made[id(output)] = name, output
            used.append(name)

        return hook

    def normalised(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            used.append(name)
            if id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], name))

        return hook

    hooks = [part.register_forward_hook(convolved(name)) for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
    for name, part in model.named_modules():
        if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
            hooks.append(part.register_forward_pre_hook(normalised(name)))
    logits = model(x)
    for hook in hooks:
        hook.remove()
    return [pair for pair in pairs if all(used.count(name) == 1 for name in pair)], logits
