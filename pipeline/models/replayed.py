"""On a GPU: a network's forward and backward, or a whole step of training, as CUDA graphs. What is done to small images takes the
GPU microseconds, less than Python takes to ask for it; a graph of all of it is asked for once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.network import Features

Outputs = tuple[Tensor, ...]
Work = Callable[..., Outputs]


class Replayed(nn.Module):
    """`network` in eval mode, for attacks: the same kernels on the same images give the same answers, and gradients for the images,
    not for the weights. Its weights may change in place. Batches of any size: each is filled up to the next power of two, or to the
    largest size seen, since a recording is for one shape; so no image's answer may hang on others of its batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.largest = 1
        self.names: list[str] = []
        self.logits, self.everything = (Recorder(work, differentiable=True) for work in (self._logits, self._everything))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self._filled(x))[0][: len(x)]

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        logits, *features = (output[: len(x)] for output in self.everything(self._filled(x)))
        return logits, dict(zip(self.names, features, strict=True))

    def _filled(self, x: Tensor) -> Tensor:
        """With copies of its first image at the end."""
        self.largest = max(self.largest, len(x))
        missing = filled_size(len(x), self.largest) - len(x) if len(x) else 0
        return torch.cat([x, x[:1].expand(missing, -1, -1, -1)]) if missing else x

    def _logits(self, x: Tensor) -> Outputs:
        return (self.network(x),)

    def _everything(self, x: Tensor) -> Outputs:
        logits, features = self.network.forward_features(x)  # type: ignore[operator]
        self.names = list(features)
        return logits, *features.values()


def replayed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network itself where there is no GPU."""
    return Replayed(network) if device.type == "cuda" else network


def filled_size(count: int, largest: int) -> int:
    """The next power of two, at most `largest`."""
    return min(1 << max(count - 1, 0).bit_length(), largest)


class Recorder:
    """`work` with the same results, recorded once for each shape and then replayed. A shape's first batch goes through `work` as it
    is, so that nothing is recorded for a shape that comes once, and all that is made once (plans, workspaces, momenta) is there;
    likewise every batch on a CPU.

    work: tensors, the first (B, ...) -> tensors. It must not wait for the GPU. What it reads besides, and may change in place, must
    stay where it is in memory: parameters, batch norm's statistics. Numbers that are no tensors are recorded as they were.
    differentiable: gradients lead from what comes out to the first tensor that goes in, and to nothing else; a backward must come
    before the next call with that shape. Else none leads out.
    """

    def __init__(self, work: Work, *, differentiable: bool) -> None:
        self.work, self.differentiable = work, differentiable
        self.recordings: dict[torch.Size, _Recording | None] = {}

    def __call__(self, *inputs: Tensor) -> Outputs:
        x = inputs[0]
        if x.device.type != "cuda" or not len(x):
            return self.work(*inputs)
        if x.shape not in self.recordings:
            self.recordings[x.shape] = None
            return self.work(*inputs)
        recording = self.recordings[x.shape]
        if recording is None:
            recording = self.recordings[x.shape] = _Recording(self.work, inputs, self.differentiable)
        if not self.differentiable:
            return recording.replay(inputs)
        outputs: Outputs = _Replay.apply(recording, *inputs)
        return outputs


class _Recording:
    """Of one shape. All that the graphs read and write stays in place: what goes in, what comes out, and their gradients."""

    def __init__(self, work: Work, inputs: Sequence[Tensor], differentiable: bool) -> None:
        self.inputs = [value.detach().clone() for value in inputs]
        self.inputs[0].requires_grad_(differentiable)
        self.ahead, self.back, self.times = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), 0
        with torch.enable_grad():
            with torch.cuda.graph(self.ahead):
                outputs = work(*self.inputs)
            if differentiable:
                self.given = [torch.zeros_like(output) for output in outputs]
                with torch.cuda.graph(self.back, pool=self.ahead.pool()):
                    self.wanted = torch.autograd.grad(outputs, self.inputs[0], self.given)[0]
        self.outputs = [output.detach() for output in outputs]

    @torch.no_grad()
    def replay(self, inputs: Sequence[Tensor]) -> Outputs:
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value)
        self.ahead.replay()
        self.times += 1
        return tuple(output.clone() for output in self.outputs)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: _Recording, *inputs: Tensor) -> Outputs:
        outputs = recording.replay(inputs)
        ctx.recording, ctx.time, ctx.rest = recording, recording.times, [None] * (len(inputs) - 1)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        recording = ctx.recording
        if ctx.time != recording.times:
            raise RuntimeError("the backward of a replayed forward must come before the next forward of the same shape")
        for place, value in zip(recording.given, gradients, strict=True):
            place.copy_(value)
        recording.back.replay()
        return None, recording.wanted.clone(), *ctx.rest
