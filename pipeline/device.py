"""Where tensors live."""

import torch


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one. Raises ValueError for `cuda` without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device: cuda, but no CUDA device is visible; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
