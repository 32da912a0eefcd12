"""Where tensors live and on how many threads."""

import os
import sys

import torch

from pipeline.runtime.distributed import check_same, world_size


def set_up_device(device: str, threads: int, precision: str = "fp32") -> torch.device:
    """`auto` is the GPU when there is one, and one for each rank; threads 0 is torch's choice. Raises ValueError for `cuda` without
    one, and for more ranks on this machine than GPUs. Says so where `precision` is slow there.

    The number of threads decides the order of sums: a fixed one gives the same bytes whatever the number of cores.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device: cuda, but no CUDA device is visible; use auto or cpu")
    if device != "cpu" and torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        torch.backends.cudnn.deterministic = True
        if world_size() > 1:
            _take_own_gpu()
    if threads:
        torch.set_num_threads(threads)
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "bf16" and not has_bf16(chosen):
        print(
            f"warning: bf16 without instructions for it on this {chosen.type}: fp32 is many times faster",
            file=sys.stderr,
            flush=True,
        )
    return chosen


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; in software it is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _take_own_gpu() -> None:
    number, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= here:
        raise ValueError(
            f"torchrun: a process needs a GPU of its own, --nproc-per-node is at most {here} here; or compute.device: cpu"
        )
    torch.cuda.set_device(number)
    check_same("the GPU", torch.cuda.get_device_name())  # another kind draws other random numbers
