"""A model whose blocking parts pass gradients on as if they were the identity: BPDA with g(x) = x (Athalye et al.,
arXiv:1802.00420, section 4.1). A view on a model, for attacks; its predictions are the model's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.attacks.steps import evaluating, slope

ROUND = ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "frac")
STEPS: frozenset[Any] = frozenset(getattr(place, name) for place in (torch, Tensor) for name in ROUND)
STEPS_IN_PLACE: Mapping[Any, Any] = {getattr(Tensor, f"{name}_"): getattr(torch, name) for name in ROUND}
DETACH: frozenset[Any] = frozenset({torch.detach, Tensor.detach, Tensor.data.__get__})  # type: ignore[attr-defined]
LEAVES = frozenset({Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.item})  # what autograd cannot follow, and says so


class StraightThrough(nn.Module):
    """`network` with the identity's gradient at every rounding, sign and detaching that its forward does in torch, through code
    under torch.no_grad, and at those of its modules whose output has the shape of their input and which no gradient comes through
    (a codec in numpy, say). `blocked`: whether the forward of the images `x` has any such place; else it is the network itself."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.network, self.blocked = network, False
        with evaluating(network):
            self.modules_to_pass = _blocking_modules(network, x)
            with torch.enable_grad():
                self(x.detach().clone().requires_grad_())

    def forward(self, x: Tensor) -> Tensor:
        mode = _Identity()
        with ExitStack() as stack:
            for module in self.modules_to_pass:
                stack.callback(module.register_forward_hook(_pass_module).remove)
            with _grad_mode_restored(), mode:
                logits: Tensor = self.network(x)
        self.blocked = self.blocked or mode.met or bool(self.modules_to_pass)
        return logits


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _pass_module(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    passed: Tensor = _Pass.apply(inputs[0], output.detach().to(inputs[0].dtype))
    return passed


class _Identity(TorchFunctionMode):
    """Inside, what torch does to a tensor that a gradient leads back from."""

    met = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled and not args[0] and torch.is_grad_enabled():
            return None  # no_grad inside of the forward
        if not (args and isinstance(args[0], Tensor) and args[0].requires_grad):
            return func(*args, **kwargs)
        x = args[0]
        if func in LEAVES:
            return func(x.detach(), *args[1:], **kwargs)
        if func in DETACH:
            self.met = True
            return x
        if func in STEPS:
            self.met = True
            return _Pass.apply(x, func(x.detach(), *args[1:], **kwargs))
        if func in STEPS_IN_PLACE:
            self.met = True
            return x.add_(STEPS_IN_PLACE[func](x.detach(), *args[1:], **kwargs) - x.detach())
        return func(*args, **kwargs)


@contextmanager
def _grad_mode_restored() -> Iterator[None]:
    """After a forward in which nobody could switch it off."""
    before = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


def _blocking_modules(network: nn.Module, x: Tensor) -> list[nn.Module]:
    """Modules, not the network itself, that give an output of their input's shape, which depends on it, and no gradient."""
    found: list[nn.Module] = []
    looking = False

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal looking
        if looking or module is network or len(inputs) != 1 or not all(isinstance(v, Tensor) for v in (inputs[0], output)):
            return
        if inputs[0].shape != output.shape or not inputs[0].is_floating_point() or module in found:
            return
        looking = True
        try:
            with torch.enable_grad():
                start = inputs[0].detach().requires_grad_()
                with _Identity():
                    end = module(start)
                if not slope(end.flatten(1).sum(1), start).any():
                    found.append(module)
        except RuntimeError:  # it refuses a tensor with a gradient, so none comes through
            found.append(module)
        finally:
            looking = False

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found
