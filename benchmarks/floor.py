"""The machine's limit: FLOP/s of a large matrix product. And what the networks need: FLOPs of a forward, of a step of training and
of a step of an attack. `python -m benchmarks.floor`."""

import argparse
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Size, timed
from benchmarks.results import Report, parse, run_main, start, write
from benchmarks.subjects import NETWORKS, blank_network
from pipeline.attacks.steps import evaluating
from pipeline.jobs.plan.calibration import has_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZES = {
    "rows": Size(512, 2048, 8192, "of the square matrices"),
    "repeats": Size(3, 20, 50, "products, of which the fastest counts"),
}


def peak(device: torch.device, precision: str, *, rows: int, repeats: int) -> float:
    """FLOP/s of the fastest of some products of two square matrices."""
    left, right = (torch.randn(rows, rows, device=device).to(DTYPES[precision]) for _ in range(2))
    return 2 * rows**3 / min(timed(lambda: left @ right, device)[1] for _ in range(repeats))


def quick_peak(device: torch.device, precision: str) -> float:
    """The same in about a second, for the other benchmarks: measured beside them, so with their threads and under their load."""
    rows = SIZES["rows"].cuda if device.type == "cuda" else SIZES["rows"].cpu
    return peak(device, precision, rows=int(rows), repeats=8)


def training_flops(network: nn.Module, x: Tensor) -> int:
    """Of a forward and a backward to all weights, for a batch x. Products and convolutions only."""
    return _flops(lambda: F.cross_entropy(network(x), torch.zeros(len(x), dtype=torch.int64, device=x.device)).backward())


def attack_flops(network: nn.Module, x: Tensor) -> int:
    """Of a forward and a backward to the images alone."""
    x = x.detach().requires_grad_()
    with evaluating(network):  # no gradient to the weights
        return _flops(lambda: network(x).sum().backward())


@torch.no_grad()
def forward_flops(network: nn.Module, x: Tensor) -> int:
    return _flops(lambda: network(x))


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    chosen, device = parse(parser, SIZES)
    known = start(chosen, device)
    precisions = ["fp32", *(["bf16"] if has_bf16(device) else [])]
    peaks = {name: peak(device, name, rows=chosen.rows, repeats=chosen.repeats) for name in precisions}
    rows = [("matrix product", name, value / 1e9, "GFLOP/s") for name, value in peaks.items()]
    for name in NETWORKS:
        network, x = blank_network(name, device)
        counts = {"forward": forward_flops, "attack step": attack_flops, "training step": training_flops}
        rows += [(name, what, count(network.eval(), x) / 1e9 / len(x), "GFLOP an image") for what, count in counts.items()]
    table = pd.DataFrame(rows, columns=["of", "what", "value", "unit"])
    shown = table.assign(value=table["value"].map("{:.3g}".format))
    notes = ["A product counts 2 n^3. Of the networks products and convolutions are counted, by torch.utils.flop_counter."]
    print(write(Report("floor", "The machine's limit", table, {"": shown}, notes, []), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
