"""Any classifier as a Network of ours: images in [0, 1] -> logits, and features of named layers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.network import Features, Network
from pipeline.models.normalize import Normalize


class Given(Network):
    """`model` behind a Normalize where mean and std are given, (C,) each. Features: of its own `forward_features`, where that gives
    logits and a dict as ours do (`dims` has those that `layers` names); else the outputs of the submodules `layers`, averaged over
    all but the first two dimensions, of three over the second; else there are none. x: some images (B, C, H, W), for one forward.

    Raises ValueError where the model does not take such images, does not answer with a tensor (B, K), or lacks a layer.
    """

    LAYERS = ()

    def __init__(
        self, model: nn.Module, x: Tensor, *, mean: Tensor | None = None, std: Tensor | None = None, layers: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.normalize = Copied() if mean is None or std is None else Normalize(mean, std)
        self.model, self.layers, self.own = model, tuple(layers), False
        self.to(x.device).eval()
        with torch.no_grad():
            logits = self._answer(x)
            self._answer(x[:1])  # as attacks end with, when all other images are done
            names = _own_features(model, self.normalize(x))
            self.own = bool(names) and set(layers) <= set(names)
            known = [name for name, _ in model.named_modules() if name]
            if unknown := [name for name in layers if not self.own and name not in known]:
                some = ", ".join(names or [name for name in known if name.count(".") == 0])
                raise ValueError(f"features: the model has no layer {', '.join(unknown)}, choose from {some} and those inside them")
            found = self.forward_features(x)[1]
            self.dims = {name: found[name].shape[1] for name in layers or found}
        self.classes = logits.shape[1]

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        x = self.normalize(x)
        if self.own:
            found: tuple[Tensor, Features] = self.model.forward_features(x)  # type: ignore[operator]
            return found
        seen: Features = {}
        hooks = [self.model.get_submodule(name).register_forward_hook(partial(_keep, seen, name)) for name in self.layers]
        try:  # for this forward only: a copy of the model must not write into this one's features
            logits = self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        if len(seen) < len(self.layers):
            raise ValueError(f"features: a forward does not reach {', '.join(set(self.layers) - set(seen))}")
        return logits, {name: seen[name] for name in self.layers}

    def reads(self, kind: type[nn.Module]) -> bool:
        """Whether the output of such a submodule is one of the features."""
        return not self.own and any(isinstance(self.model.get_submodule(name), kind) for name in self.layers)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.normalize(x))
        return logits

    def _answer(self, x: Tensor) -> Tensor:
        shape = "x".join(map(str, x.shape[1:]))
        try:
            logits = self(x)
        except Exception as error:  # the code is not ours, so it may raise anything
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the model fails on {len(x)} images of {shape} ({type(error).__name__}: {reason}); does it expect this shape?"
            ) from None
        if not isinstance(logits, Tensor):
            raise ValueError(f"the model returns a {type(logits).__name__}; wrap it so that it returns only the logits")
        if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            raise ValueError(f"the model answers {len(x)} images with a tensor {tuple(logits.shape)}, not ({len(x)}, classes)")
        return logits


class Copied(nn.Module):
    """A copy of the images: a model that works on them in place must not change those that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def _own_features(model: nn.Module, x: Tensor) -> list[str]:
    """Of its `forward_features`, where it is there and of our kind: other libraries call something else by this name."""
    if not callable(getattr(model, "forward_features", None)):
        return []
    try:
        found: Any = model.forward_features(x)  # type: ignore[operator]
    except Exception:  # it takes something else
        return []
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor) and isinstance(found[1], dict)):
        return []
    good = all(isinstance(value, Tensor) and value.ndim == 2 for value in found[1].values())
    return list(found[1]) if good else []


def _keep(seen: Features, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    if not isinstance(output, Tensor) or output.ndim < 2:
        raise ValueError(f"features: {name} returns {type(output).__name__}, not a tensor with a row for each image")
    if output.ndim == 3:
        output = output.mean(1)
    seen[name] = output.mean(tuple(range(2, output.ndim))) if output.ndim > 2 else output
