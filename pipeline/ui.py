"""python -m pipeline.ui PORT: the MLflow UI on loopback, with a link that opens the verdicts on all models side by side."""

import json
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from pipeline.params.schema import load_params
from pipeline.tracking import complaints, log_size, spool, stage_lives, store_uri, wake_writer
from pipeline.tracking_writer import open_store

PENDING_SECONDS = 30.0


def write_pending() -> None:
    """Waits, but not for ever, until runs whose stages are over are in the store."""
    log_read, deadline = log_size(), time.monotonic() + PENDING_SECONDS
    while any(map(_over, spool())) and not complaints(log_read) and time.monotonic() < deadline:
        wake_writer()  # in the loop: one whose store fails is about to go, and the next one tries again
        time.sleep(0.2)
    print(*complaints(log_read), sep="", end="", file=sys.stderr)


def _over(spooled: Path) -> bool:
    with suppress(FileNotFoundError), spooled.open("rb") as file:  # the writer may have just deleted it
        return not stage_lives(file)
    return False


def comparison_path(uri: str) -> str:
    """Path of MLflow's compare page for the newest run of each model in experiment `verdict`, or of the start page."""
    client = open_store(uri)
    experiment = client.get_experiment_by_name("verdict")
    if experiment is None:
        return "/"
    runs: dict[str, str] = {}
    done = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time ASC"])
    for run in done:
        runs.pop(run.info.run_name, None)  # the newest counts, and stands where it was made
        runs[run.info.run_name] = run.info.run_id
    if len(runs) < 2:
        return f"/#/experiments/{experiment.experiment_id}"
    return (
        f"/#/compare-runs?runs={quote(json.dumps(list(runs.values())))}&experiments={quote(json.dumps([experiment.experiment_id]))}"
    )


def main(port: int) -> None:
    """Serves until interrupted."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            sys.exit(f"error: port {port} is in use; choose another with make ui PORT={port + 1}")
    write_pending()
    uri = store_uri(load_params().tracking.uri)
    link = f"http://127.0.0.1:{port}{comparison_path(uri)}"
    print(f"\nSide by side, in a moment:\n  {link}\n", flush=True)
    threading.Thread(target=_open_when_up, args=(port, link), daemon=True).start()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    try:
        sys.exit(subprocess.call(command))
    except KeyboardInterrupt:
        sys.exit(0)


def _open_when_up(port: int, link: str) -> None:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                webbrowser.open(link)  # does nothing where there is no browser
                return
        time.sleep(0.5)


if __name__ == "__main__":
    main(int(sys.argv[1]))
