"""What a benchmark ran on: the device and its name, which precision it has hardware for, versions, commit, load."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

from pipeline.jobs.plan.calibration import has_bf16

Precision = Literal["fp32", "bf16"]
LIBRARIES = ("torch", "torchvision", "numpy", "foolbox", "adversarial-robustness-toolbox", "torchattacks")


def device_name(device: torch.device) -> str:
    """With what tells CPUs of one name apart: a host may call all of its own "AMD EPYC"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu()}, {os.cpu_count()} cores" + (", bf16" if has_bf16(device) else "")


def folder_name(device: torch.device) -> str:
    """The device's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*: (.+)", cpuinfo.read_text())):
        return found[1].strip()
    return platform.processor() or platform.machine()


def best_precision(device: torch.device) -> Precision:
    """What the pipeline's own `compute.precision` and `attack_precision` should be here."""
    return "bf16" if has_bf16(device) else "fp32"


def conditions(device: torch.device) -> dict[str, str]:
    """What a reader must know of the run to compare it with another."""
    return {
        "device": device_name(device),
        "instructions": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else f"CUDA {torch.version.cuda}",
        "threads": str(torch.get_num_threads()),
        "bf16 hardware": "yes" if has_bf16(device) else "no",
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": _load(),
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that HEAD is at, with a mark where code or params are not as in it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", "pipeline", "benchmarks", "params.yaml")
    except (OSError, subprocess.CalledProcessError):
        return "not a git repository"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _load() -> str:
    """Processes that wanted a core, on average over the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if sys.platform != "win32" else "unknown"
