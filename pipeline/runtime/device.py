"""Where tensors live and on how many threads."""

import os
import sys

import torch

from pipeline.runtime.distributed import check_same, world_size


def set_up_device(device: str, threads: int) -> torch.device:
    """`auto` is the GPU when there is one, and one for each rank; threads 0 is torch's choice. Raises ValueError for `cuda` without
    one, and for more ranks on this machine than GPUs.

    The number of threads decides the order of sums: a fixed one gives the same bytes whatever the number of cores.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device: cuda, but no CUDA device is visible; use auto or cpu")
    if device != "cpu" and torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        torch.backends.cudnn.deterministic = True
        if world_size() > 1:
            _take_own_gpu()
    elif torch.backends.mps.is_available():
        print("warning: MPS, Apple's GPU, is not supported here: the CPU does the work", file=sys.stderr, flush=True)
    if threads:
        torch.set_num_threads(threads)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _take_own_gpu() -> None:
    number, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= here:
        raise ValueError(
            f"torchrun: a process needs a GPU of its own, --nproc-per-node is at most {here} here; or compute.device: cpu"
        )
    torch.cuda.set_device(number)
    check_same("the GPU", torch.cuda.get_device_name())  # another kind draws other random numbers
