"""The MLflow UI on loopback, with a link that opens the list of models beside their comparison."""

import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from pathlib import Path

from pipeline.tracking.results import sync_all
from pipeline.tracking.run import open_store, store_errors
from pipeline.tracking.store import Settings, store_uri
from pipeline.tracking.view import page, save_view


def serve(settings: Settings, port: int) -> int:
    """Records what the store has missed, then serves until interrupted. Returns the exit status. A tracking server has a UI of its
    own: then the link is all. Raises ValueError for a port that cannot be used or a store that fails."""
    uri = store_uri(settings.uri)
    remote = uri.startswith("http")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 0 if remote else port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be used ({error}); choose another with make ui PORT=5001") from None
    store = open_store(settings)
    try:
        sync_all(settings, Path())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # there is something to see all the same
    with store_errors():
        save_view(store)
    address = uri.rstrip("/") if remote else f"http://127.0.0.1:{port}"
    link, as_list = (address + page(store.experiment_id, charts=charts) for charts in (True, False))
    print(f"\nSide by side{'' if remote else ', in a moment'}:\n  {link}\nAs a list:\n  {as_list}\n", flush=True)
    if remote:
        webbrowser.open(link)
        return 0
    threading.Thread(target=_open_when_up, args=(port, link), daemon=True).start()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # half the memory
    with suppress(KeyboardInterrupt):
        return subprocess.call([*command, "--workers", "1"], env=environment)  # MLflow's 4 do not come up on a busy machine
    return 0


def _open_when_up(port: int, link: str) -> None:
    for _ in range(600):  # five minutes, for a busy machine
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                webbrowser.open(link)  # does nothing where there is no browser
                return
        time.sleep(0.5)
