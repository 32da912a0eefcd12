"""Mistakes in what a user brings: params.yaml and images. Each is to be refused in one line, at once, with nothing touched, or else
to change nothing."""

import os
import random
from pathlib import Path

import yaml

from benchmarks.faults import bad_data, bad_params
from benchmarks.faults.cases import Case
from benchmarks.faults.kills import remove
from benchmarks.faults.obstacles import clear
from benchmarks.faults.place import differing, done, results, run
from benchmarks.faults.small import ROOT

LONGEST = 5.0  # seconds of the processor until it is refused
SOURCES = {
    "folder": {"name": "image_folder", "folder": "pets", "size": None, "channels": 1},
    "parquet": {
        "name": "parquet",
        "train": "pets/train-*.parquet",
        "test": "pets/test-*.parquet",
        **dict.fromkeys(("image_column", "label_column", "sha256sums")),
    },
}


def make_inputs(folder: Path) -> None:
    """A folder for `params_mistake`, with the items of the shipped params."""
    folder.mkdir(parents=True)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("root: .", f"root: {ROOT}"), encoding="utf-8")
    (folder / "data/given").mkdir(parents=True)
    done(folder, "python", "-m", "stages.items")


def params_mistake(folder: Path, kind: str, rng: random.Random) -> Case:
    """folder: `make_inputs`, and is left so."""
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    wrong, what = bad_params.mistake(text, kind, rng)
    path.write_text(wrong, encoding="utf-8")
    case = refused("params.yaml", what, folder, "stages.items")
    path.write_text(text, encoding="utf-8")
    if case.one_line is None:
        done(folder, "python", "-m", "stages.items")
    return case


def data_fault(folder: Path, form: str, fault: bad_data.Fault, rng: random.Random) -> Case:
    """folder: can be thrown away."""
    remove(folder)
    (folder / "data/given").mkdir(parents=True)
    own = {"extends": str(ROOT / "params.yaml"), "root": str(ROOT), "run": {"datasets": ["pets"]}}
    own["datasets"] = {"pets": {"base": "digits", "source": SOURCES[form], "validation": {"fraction": 0.2}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(own))
    write = {"folder": bad_data.write_folder, "parquet": bad_data.write_parquet}[form]
    write(folder / "pets")
    done(folder, "python", "-m", "stages.items")
    done(folder, "python", "-m", "stages.data", "pets")
    what = f"{form}: {fault.__name__.replace('_', ' ')}: {fault(folder / 'pets', rng)}"
    return refused("images", what, folder, "stages.data", "pets")


def refused(kind: str, what: str, folder: Path, *arguments: str) -> Case:
    before, begun = results(folder), _processor()
    said = run(folder, "python", "-m", *arguments)
    seconds, changed, notes = _processor() - begun, differing(results(folder), before), list[str]()
    if said.returncode:
        notes += [] if clear(said) else [f"status {said.returncode}: {' '.join(said.stderr.split())[-300:]}"]
        notes += [f"{seconds:.1f} s"] if seconds > LONGEST else []
        notes += [f"changed: {', '.join(changed)}"] if changed else []
    else:
        warned = "warning" in said.stderr
        what = f"{what}: accepted, {'warned of, ' if warned else ''}{len(changed)} results differ"
        notes += ["without a word"] if kind == "images" and changed and not warned else []
    return Case(kind, what, clear(said) if said.returncode else None, not notes, "; ".join(notes), seconds)


def _processor() -> float:
    """Seconds of it that finished children have had: a busy machine counts no more than an idle one."""
    times = os.times()
    return times.children_user + times.children_system
