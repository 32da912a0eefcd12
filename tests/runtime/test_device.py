"""Memory that was freed is used again, not asked for anew."""

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

CODE = """
import resource, torch
from pipeline.runtime.device import set_up_device
set_up_device("cpu", 1)
def step():
    kept = [torch.ones(4_000_000) for _ in range(4)]  # 16 MB each, freed together
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the malloc of glibc")
def test_freed_memory_is_kept() -> None:
    """64 MB are 16000 pages of 4 KB; each new one would be a page fault. What is kept may lie so that a few steps need more."""
    gives_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # always: by itself, glibc learns to keep some
    faults = {}
    for name, code in (("kept", CODE), ("given back", CODE.replace('set_up_device("cpu", 1)', "torch.set_num_threads(1)"))):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=gives_back, capture_output=True, text=True, check=True)
        faults[name] = int(done.stdout)
    assert faults["given back"] > 20 * 15000
    assert faults["kept"] < faults["given back"] / 3
