"""The pages that `make ui` names, in a real browser on the real server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_servers import free_port, wait_for
from tracked import SETTINGS, in_shared_folder, train  # noqa: F401

from pipeline.tracking.run import track
from pipeline.tracking.store import store_uri

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; apt-get install chromium")
FIGURES = {"at": (97.5, 48.25, 37.75, 36.75), "hcp": (98.5, 1.75, 0.25, 0.5)}
NAMES = ("accuracy/clean", "accuracy/pgd_0.15", "accuracy/adaptive_0.15", "accuracy/autoattack_0.15")


@pytest.fixture
def links(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """What stages.ui prints: the comparison, and the list."""
    settings = SETTINGS._replace(experiment="browser")
    train("digits/at/0", "superseded", settings=settings)
    for method, figures in FIGURES.items():
        train(f"digits/{method}/0", f"t-{method}", settings=settings)
        about = {"model": f"digits/{method}/0", "key": f"a-{method}", "trained": f"t-{method}", "params": {}}
        with track(settings, **about, tags={"stage": "attack"}, record=tmp_path / f"data/attacks/{method}/run.json") as run:
            run.log(dict(zip(NAMES, figures, strict=True)))
    train("digits/not_attacked/0", "t-other", settings=settings)
    (tmp_path / "params.yaml").write_text(f"tracking: {{enabled: true, uri: '{store_uri('')}', experiment: browser}}\n")
    port = free_port()
    command = [sys.executable, "-m", "stages.ui", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = (line.strip() for line in process.stdout if "http" in line)
        shown = next(lines), next(lines)
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield shown
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def page(link: str, folder: Path) -> str:
    """HTML that the browser has made of it."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=3000,1000", f"--user-data-dir={folder}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=60000", "--dump-dom", link], capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout


def test_the_comparison_and_the_list_show_the_figures_of_every_attacked_model(links: tuple[str, str], tmp_path: Path) -> None:
    charts, listed = (page(link, tmp_path / "browser") for link in links)
    for html in (charts, listed):
        assert set(re.findall(r">(digits/\w+/0)<", html)) == {"digits/at/0", "digits/hcp/0"}
    assert ">Parallel Coordinates<" in charts
    assert re.findall(r'<text[^>]* class="label">(\w+)</text>', charts) == ["clean", "paper_attack", "robust"]
    places = re.findall(r'col-id="metrics\.`(\w+)`"[^>]* style="left: (\d+)px', listed)
    columns = dict(sorted(places, key=lambda place: int(place[1])))
    assert list(columns) == ["clean", "paper_attack", "adaptive", "autoattack", "robust"]
    assert {f"attributes.`{name}`" for name in ("Dataset", "Models", "Description")} <= set(re.findall(r'col-id="([^"]+)"', listed))
    for figures in FIGURES.values():
        assert {f"{value:g}" for value in figures} <= set(re.findall(r">([\d.]+)<", listed))
