"""Where tensors live and on how many threads."""

import torch


def set_up_device(device: str, threads: int) -> torch.device:
    """`auto` is the GPU when there is one; threads 0 is torch's choice. Raises ValueError for `cuda` without one.

    The number of threads decides the order of sums: a fixed one gives the same bytes whatever the number of cores.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device: cuda, but no CUDA device is visible; use auto or cpu")
    if device != "cpu" and torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        torch.backends.cudnn.deterministic = True
    if threads:
        torch.set_num_threads(threads)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
