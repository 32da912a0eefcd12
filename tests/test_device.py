"""Memory that was freed is used again, not asked for anew."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT

CODE = """
import resource, torch
from pipeline.device import set_up_device
set_up_device("cpu", 1)
def step():
    kept = [torch.ones(4_000_000) for _ in range(4)]  # 16 MB each, freed together
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the malloc of glibc")
def test_freed_memory_is_kept() -> None:
    """64 MB are 16000 pages of 4 KB; each new one would be a page fault."""
    faults = {}
    for name, code in (("kept", CODE), ("given back", CODE.replace('set_up_device("cpu", 1)', "torch.set_num_threads(1)"))):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        faults[name] = int(done.stdout)
    assert faults["kept"] < 1000
    assert faults["given back"] > 10 * faults["kept"]
