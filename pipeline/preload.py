"""Imports made once. Most stages would spend seconds on importing torch, or pandas and matplotlib, and DVC one on importing itself;
`make repro` starts some seventy of both. `python -m pipeline.preload COMMAND` imports all that in one process while COMMAND runs,
and what COMMAND starts runs in forks of it: those stages, through DVC, and DVC where it is started by
`python -m pipeline.preload -m dvc ARGUMENTS`. Everything is as if each had been started by itself, its pid aside: arguments,
environment, folder, output, exit status, and what is killed dies.

PIPELINE_LAUNCH is how stages come here (pipeline/cli.py); where it is set already, COMMAND runs as it is. So it does where forks of
a process that has loaded numerical libraries are not safe (macOS)."""

import gc
import json
import os
import pkgutil
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from pipeline.cli import LAUNCHED

SOCKET = "PIPELINE_PRELOADED"  # in the environment: where the process that has the imports listens
STARTED = b"+"
POLL = 0.2  # seconds between two looks at whether the command has ended


def serve(command: list[str]) -> int:
    """Runs the command, answers what it starts, and returns its exit status."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder, "socket"))  # in a folder that no other user may enter
        try:
            listener.bind(address)
        except OSError:  # the path is too long
            return subprocess.run(command, check=False).returncode
        launch = shlex.join([sys.executable, "-m", "pipeline.preload"])
        launched = {**dict.fromkeys(LAUNCHED, launch), SOCKET: address}
        with subprocess.Popen(command, env={**os.environ, **launched}) as running:
            try:
                import_what_they_need()
                listener.listen(64)  # whoever came before runs by himself, sooner than he would here
                answer(listener, running)
            except (Exception, KeyboardInterrupt):  # a stage that cannot import what it needs says so; the keyboard reaches all
                listener.close()
            return running.wait()


def answer(listener: socket.socket, running: "subprocess.Popen[bytes]") -> None:
    """A fork for each that comes, until the command ends."""
    gc.freeze()  # all that is there stays: forks need not look through it for garbage, nor often: a fifth of DVC's time
    gc.set_threshold(100_000, 50, 100)
    listener.settimeout(POLL)
    forks = set[int]()
    while running.poll() is None:
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            with connection:
                pid = os.fork()
                if pid == 0:
                    listener.close()
                    run_here(connection)
                forks.add(pid)
        forks -= {pid for pid in forks if os.waitpid(pid, os.WNOHANG)[0]}


def import_what_they_need() -> None:
    """DVC, and all that does the work of the stages. None of it may start threads of its own or touch a GPU when imported."""
    for name in ("dvc.cli", "dvc.repo.reproduce", "pipeline.lookups"):
        import_module(name)
    for room in ("pipeline.jobs", "pipeline.reporting"):
        for work in pkgutil.iter_modules(import_module(room).__path__, f"{room}."):
            import_module(work.name)


def run_here(connection: socket.socket) -> NoReturn:
    """In a fork: becomes what the other end asks for, tells it so and then the exit status, and ends; at once if the other end
    does."""
    status = 1
    try:
        connection.sendall(STARTED)
        streams = socket.recv_fds(connection, 1, 3)[1]
        with connection.makefile("rb") as lines:
            asked = json.loads(lines.readline())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        threading.Thread(target=die_with, args=(connection,), daemon=True).start()
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = asked["arguments"][1:]  # without -m
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with suppress(OSError):
            connection.sendall(bytes([status & 255]))
        os._exit(status & 255)


def die_with(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.recv(1)  # nothing ever comes but the end
    os.kill(os.getpid(), signal.SIGKILL)


def ask(arguments: list[str]) -> NoReturn:
    """-m MODULE ARGUMENTS: run there, or if nobody listens, here. Ends this process with the exit status of that."""
    connection = socket.socket(socket.AF_UNIX)
    asked = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    try:
        connection.connect(os.environ.get(SOCKET, ""))
        socket.send_fds(connection, [b"-"], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode() + b"\n")
        started = connection.recv(1) == STARTED
    except OSError:
        started = False
    if not started:
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the keyboard it reaches the fork as well, which ends as it sees fit
    try:
        status = connection.recv(1)
    except OSError:
        status = b""
    if not status:
        print(f"error: {' '.join(arguments)} was killed", file=sys.stderr)
    sys.exit(status[0] if status else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["-m"]:
        ask(sys.argv[1:])
    if os.environ.get("PIPELINE_LAUNCH") or sys.platform != "linux":
        os.execvp(sys.argv[1], sys.argv[1:])
    sys.exit(serve(sys.argv[1:]))
