"""Where tensors live and on how many threads."""

import torch


def set_up_device(device: str, threads: int) -> torch.device:
    """`auto` is the GPU when there is one; threads 0 is torch's choice. Raises ValueError for `cuda` without one.

    A fixed number of threads gives the same bytes on machines with other numbers of cores: it decides the order of sums.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device: cuda, but no CUDA device is visible; use auto or cpu")
    if threads:
        torch.set_num_threads(threads)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
