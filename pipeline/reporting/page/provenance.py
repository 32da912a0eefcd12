"""How the report was made: code, seeds, versions, machine and times, without names of machines, users or folders."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from pipeline.reporting.files import read_record
from pipeline.reporting.markdown import markdown_table
from pipeline.reporting.run import Run

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "dvc", "mlflow")
LEFT_OUT = "(left out)"


def run_text(*command: str) -> str:
    """What a command prints, or nothing where it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit_text(code: Path) -> str:
    """The commit of the checkout that holds `code`, and whether code or params there differ from it."""
    commit = run_text("git", "-C", str(code), "rev-parse", "HEAD")
    if not commit:
        return "not in a git checkout"
    watched = (":/*.py", ":/*.j2", ":/*.css", ":/*params.yaml", ":/*dvc.yaml", ":/requirements.lock")
    changed = run_text("git", "-C", str(code), "status", "--porcelain", "--", *watched)
    return f"{commit[:12]}, {'with uncommitted changes of code or params' if changed else 'code and params as committed'}"


def versions_text() -> str:
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def cpu_text() -> str:
    """Model, cores and memory."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), flags=re.MULTILINE)
    except OSError:
        found = None
    model = found[1] if found else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):
        memory = "memory unknown"
    return f"{model}, {cores} core{'' if cores == 1 else 's'}, {memory}"


def gpu_text() -> str:
    return "; ".join(run_text("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines()) or "none"


def system_text() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = f"{platform.system()} {platform.release()}"
    return f"{name}, {platform.machine()}"


def public_params(text: str) -> str:
    """params.yaml as it is written, without absolute paths and addresses."""
    value = r"""(?:[A-Za-z][\w+.-]*://|(?:[A-Za-z]:)?[/\\](?=\w)|~/)[^\s"',}\]]*"""
    return re.sub(rf"""(?<![^\s"'\[{{:,]){value}""", LEFT_OUT, text)


def times_table(folder: Path) -> str:
    """folder: .ckpt/times, a JSON file for each stage item that ran here (pipeline/runtime/cli.py). Sums by stage."""
    rows = [read_record(path) for path in sorted(folder.glob("*.json"))]
    if not rows:
        return "No times: no stage left its own on this machine, as when all results come from a cache."
    times = pd.DataFrame(rows).groupby("stage")["seconds"].agg(["size", "sum", "max"]).sort_values("sum", ascending=False)
    lines = [
        {"stage": str(stage), "runs": f"{size:.0f}", "seconds in all": f"{total:.1f}", "longest": f"{most:.1f}"}
        for stage, size, total, most in times.itertuples()
    ]
    total = {"stage": "**all**", "runs": f"{times['size'].sum()}", "seconds in all": f"**{times['sum'].sum():.1f}**"}
    return markdown_table(pd.DataFrame([*lines, {**total, "longest": f"{times['max'].max():.1f}"}]))


def made_sentence(run: Run, metrics: Path) -> str:
    """What was trained on what, at which commit and on which machine the page was made."""
    trained = []
    for name, own in run.datasets.items():
        images = read_record(metrics / f"data/{name}.json")["images"]["train"]
        epochs = ", ".join(f"{count} {schedule}" for schedule, count in own.epochs.items())
        trained.append(f"{name}: {own.network}, {images:,} images, {epochs} epochs")
    made = f"{commit_text(Path(__file__).parent)}, on {cpu_text()}, GPU: {gpu_text()}"
    return f"Trained on {'; '.join(trained)}. Seeds: {', '.join(map(str, run.seeds))}. Made at commit {made}."


def made_table(seeds: list[int]) -> str:
    facts = {
        "commit": commit_text(Path(__file__).parent),
        "seeds": ", ".join(map(str, seeds)),
        "versions": versions_text(),
        "CPU": cpu_text(),
        "GPU": gpu_text(),
        "system": system_text(),
    }
    return markdown_table(pd.DataFrame(list(facts.items()), columns=["", "this page was made with"]))
