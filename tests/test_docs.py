"""What README and docs/ name is there."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.params.merge import merged, plain

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_and_make_targets_exist(page: Path) -> None:
    text, makefile = page.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    for folder, name in re.findall(r"python -m (stages|benchmarks)\.([a-z_]+)", text):
        assert any((ROOT / folder / path).is_file() for path in (f"{name}.py", f"{name}/__main__.py")), name
    for name in re.findall(r"(?:^    |`)make ([a-z]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_values_that_are_set_by_name_are_in_params(page: Path) -> None:
    params = plain(merged(ROOT / "params.yaml"))
    for path in re.findall(r"-S ([a-z0-9_.]+)=", page.read_text(encoding="utf-8")):
        found = params
        for key in path.split("."):
            assert key in found, path
            found = found[key]


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
