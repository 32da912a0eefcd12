"""python -m stages.group COMMAND...: runs it so that what it starts ends with it; no DVC stage. Makefile uses it."""

import argparse
import os
import signal
import subprocess
import sys


def main() -> int:
    """Runs a command in a process group of its own, and passes on to all of the group what this process is told: SIGTERM, SIGINT
    (Ctrl-C), SIGHUP. Without it, make, xargs and DVC end and leave what they have started. Exits as the command does."""
    parser = argparse.ArgumentParser(prog="python -m stages.group", description=main.__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="with its arguments")
    command = parser.parse_args().command or parser.error("a command is missing")
    try:
        process = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        print(f"error: {command[0]} cannot be run ({error.strerror})", file=sys.stderr)
        return 127
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # nohup lets a run outlive its terminal
            signal.signal(name, lambda number, _: os.killpg(process.pid, number))
    status = process.wait()
    return status if status >= 0 else 128 - status  # as a shell says it


if __name__ == "__main__":
    sys.exit(main())
