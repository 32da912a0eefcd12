"""CITATION.cff has what version 1.2.0 of the format asks for, and says the same as the project's other files."""

import re
import tomllib

import yaml
from conftest import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_file_has_what_the_format_requires() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    for entry in CITATION["references"]:
        assert {"type", "title", "authors"} <= entry.keys()
        assert all(author.keys() in ({"family-names", "given-names"}, {"name"}) for author in entry["authors"])
        assert re.fullmatch(r"10\.\d{4,9}/\S+", entry.get("doi", "10.1000/none"))  # the format's own pattern


def test_title_and_version_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert CITATION["version"] == project["version"]
    assert readme.startswith(f"# {CITATION['title']}\n")
    flowing = " ".join(readme.split())
    for entry in CITATION["references"]:  # the two papers that the README names
        assert f"*{entry['title']}* ({entry['authors'][0]['family-names']}" in flowing
