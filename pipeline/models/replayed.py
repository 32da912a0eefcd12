"""CUDA graphs of a network's forward and backward pass, or of a whole training step. For small images a kernel takes less time
than its launch from Python; a graph launches all kernels at once."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.network import Features

Outputs = tuple[Tensor, ...]
Work = Callable[..., Outputs]

SMALLEST = 32  # images; smaller batches are no faster on a GPU, and each size needs its own recording


class Recorder:
    """Calls `work` by a CUDA graph, which is recorded at the second batch of each shape. The first batch of a shape runs `work`
    directly: a shape that occurs once needs no recording, and whatever is allocated once (cuDNN plans, workspaces, momentum
    buffers) then exists. On a CPU every batch runs `work` directly.

    work: tensors, the first (B, ...) -> tensors. It must not synchronise with the GPU. Other tensors that it reads or changes in
    place (parameters, batch norm statistics) must keep their addresses. Python numbers keep the value of the recording.
    differentiable: the outputs have a gradient with respect to the first input, and no other; the backward pass must come before
    the next call with the same shape. Otherwise the outputs have no gradient.
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
    """The graphs of one shape, with static tensors for inputs, outputs and their gradients."""

    def __init__(self, work: Work, inputs: Sequence[Tensor], differentiable: bool) -> None:
        self.inputs = [value.detach().clone() for value in inputs]
        self.inputs[0].requires_grad_(differentiable)
        self.ahead, self.back, self.times = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), 0
        with torch.enable_grad():
            with torch.cuda.graph(self.ahead):
                outputs = work(*self.inputs)
            if differentiable:
                self.given = [torch.zeros_like(output) for output in outputs]
                ends = [place for place, output in enumerate(outputs) if output.requires_grad]  # those that depend on the input
                self.wanted = torch.zeros_like(self.inputs[0])
                if ends:
                    led, given = ([values[place] for place in ends] for values in (outputs, self.given))
                    with torch.cuda.graph(self.back, pool=self.ahead.pool()):
                        self.wanted = torch.autograd.grad(led, self.inputs[0], given, materialize_grads=True)[0]
                self.leads_back = bool(ends)
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
        if recording.leads_back:
            recording.back.replay()
        return None, recording.wanted.clone(), *ctx.rest


class Replayed(nn.Module):
    """`network` in eval mode, for attacks: same results, with gradients for the images but not for the weights, which may change in
    place. A batch of any size is padded to `filled_size`, since a recording has one shape; so the output for an image must not
    depend on the rest of its batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.largest = 1
        self.names: list[str] = []
        self.logits, self.everything = (Recorder(work, differentiable=True) for work in (self._logits, self._everything))
        self.others: dict[Hashable, Recorder] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self._recorded(self.logits, x)[0]

    def forward_features(self, x: Tensor) -> tuple[Tensor, Features]:
        logits, *features = self._recorded(self.everything, x)
        return logits, dict(zip(self.names, features, strict=True))

    def recorded(self, name: Hashable, work: Work, *inputs: Tensor) -> Outputs:
        """work(*inputs), recorded under `name`. work: a computation that uses `network`; its inputs and outputs have a row for each
        image, and no gradient."""
        return self._recorded(self.others.setdefault(name, Recorder(work, differentiable=False)), *inputs)

    def _recorded(self, recorder: Recorder, *inputs: Tensor) -> Outputs:
        count = len(inputs[0])
        self.largest = max(self.largest, count)
        size = filled_size(count, self.largest)
        return tuple(output[:count] for output in recorder(*(_filled(value, size) for value in inputs)))

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
    """The next power of two from SMALLEST on, at most `largest`; 0 stays 0."""
    return min(max(1 << (count - 1).bit_length(), SMALLEST), largest) if count else 0


def _filled(rows: Tensor, size: int) -> Tensor:
    """Pads with copies of the first row."""
    missing = size - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
