"""What every script of stages/ shares on the command line: arguments, --help, what starts it in place of python, errors without a
traceback and how long it took."""

import argparse
import io
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runtime.files import atomic_path

TIMES = Path(".ckpt/times")  # the report sums them up
LAUNCHED = ("train", "attack", "transfer", "planes", "cost")  # by PIPELINE_LAUNCH, where it is set


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can mend becomes one line on stderr and exit status 2: a ValueError or OSError, which is how the library
    reports it, and errors of the machine. Ctrl-C is exit status 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks must cost no result
    try:
        if sys.platform == "win32":
            raise ValueError("Linux and macOS are supported; on Windows, use WSL")
        yield
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = str(error) if isinstance(error, ValueError | OSError) else _of_the_machine(error)
        if line is None or os.environ.get("PIPELINE_TRACEBACK"):
            raise
        print(f"error: {line} (PIPELINE_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(2)


def run_stage(main: Callable[..., None], **arguments: str) -> None:
    """Parses `arguments` (name: help text) as positional ones and calls main(*values) with one_line_errors."""
    script = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{script}",
        description=main.__doc__,
        epilog="Run it in the folder of params.yaml. PIPELINE_TRACEBACK=1 shows where an error came from; PIPELINE_LAUNCH is what "
        "runs a stage in place of python, such as 'torchrun --nproc-per-node 2' (docs/parallel.md).",
    )
    for name, help_text in arguments.items():
        parser.add_argument(name, help=help_text, type=int if name == "seed" else str)
    values = vars(parser.parse_args())
    start = time.monotonic()
    with one_line_errors():
        if script in LAUNCHED:
            launch(script, [str(value) for value in values.values()])
        main(*values.values())
    if (script in LAUNCHED or "DVC_STAGE" in os.environ) and is_first():
        write_time(script, [str(value) for value in values.values()], time.monotonic() - start)


def is_first() -> bool:
    """Of several ranks of torchrun. Others set RANK too: Kubernetes does for each pod."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def _of_the_machine(error: Exception) -> str | None:
    """One line for memory that is full and for a GPU that this PyTorch has no kernels for; torch is not imported to know them."""
    text = " ".join(str(error).split())
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if full or re.search("can't allocate memory|out of memory", text):
        return f"out of memory: lower training.batch_size or evaluation.batch_size of the data set in params.yaml ({text[:150]})"
    if "no kernel image is available" in text:
        return "this PyTorch has no kernels for the GPU here: set compute.device to cpu, or install a build of PyTorch for the GPU"
    return None


def launch(script: str, values: list[str]) -> None:
    """Where PIPELINE_LAUNCH is set, that command runs the stage, here and now, instead of this process."""
    command = shlex.split(os.environ.pop("PIPELINE_LAUNCH", ""))  # what it starts is not to start it again
    if command:
        try:
            os.execvp(command[0], [*command, "-m", f"stages.{script}", *values])
        except FileNotFoundError:
            raise ValueError(f"PIPELINE_LAUNCH: {command[0]} is not on the PATH") from None


def write_time(script: str, values: list[str], seconds: float) -> None:
    """.ckpt/times/<stage@item>.json, named by DVC where it runs the script. Whole or not at all, and never a reason to fail."""
    dvc_name = os.environ.get("DVC_STAGE", "").rpartition(":")[2]  # folder/dvc.yaml:stage@item where run from elsewhere
    name = (dvc_name or "@".join([script, *(["-".join(values)] if values else [])])).replace("/", "-")
    stage, _, item = name.partition("@")
    with suppress(OSError), atomic_path(TIMES / f"{name}.json") as path:
        path.write_text(json.dumps({"stage": stage, "item": item, "seconds": round(seconds, 3)}) + "\n")
