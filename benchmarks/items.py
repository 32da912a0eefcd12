"""What DVC itself takes by the number of items: dvc status, a dvc repro that has nothing to do, and taking the results of one item
into dvc.lock, which is what an item ends with. The items are the digits profile's, of many seeds, with made-up results of a few
bytes. `python -m benchmarks.items`."""

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd
import yaml
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile

from benchmarks.faults.place import ENVIRONMENT, done, make_place
from benchmarks.faults.small import ROOT
from benchmarks.measure import Size, child
from benchmarks.results import Report, parse, run_main, start, write

SIZES = {"most": Size(100, 5000, 5000, "items, about")}
COMMANDS = {
    "status": ["dvc", "status", "-q"],
    "no-op repro": ["dvc", "repro", "-q"],
    "one item's end": ["dvc", "commit", "-q", "-f", "finetune@digits-hcp-0"],
}
NOTES = [
    "Seconds are of whole processes, DVC's start among them; one item's end is `dvc commit -f` of one training.",
    "An item of `dvc repro` reads the results of others no more often than a no-op, and writes dvc.lock once.",
]


def make_repository(folder: Path, seeds: int) -> int:
    """Returns how many items it has, all of which DVC takes for finished."""
    make_place(folder)
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    run, transfer = shipped["run"] | {"seeds": list(range(seeds))}, {"sources": shipped["transfer"]["sources"]}
    own = {"extends": str(ROOT / "params.yaml"), "root": str(ROOT), "run": run, "transfer": transfer}
    (folder / "params.yaml").write_text(json.dumps(own))
    done(folder, "dvc", "repro", "-q", "items")
    stages, lock = Repo(str(folder)).index.stages, {}
    for path in {Path(folder, out.def_path) for stage in stages for out in stage.outs}:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path))
    with stages[0].repo.lock:
        for stage in stages:
            stage.save(run_cache=False)
            stage.commit()
            lock[stage.name] = to_single_stage_lockfile(stage)
    text = yaml.dump(json.loads(json.dumps({"schema": "2.0", "stages": lock})), Dumper=yaml.CSafeDumper, sort_keys=False)
    (folder / "dvc.lock").write_text(text)
    return len(stages)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.items", description=__doc__)
    chosen, device = parse(parser, SIZES)
    known, rows = start(chosen, device), []
    for seeds in sorted({1, max(1, chosen.most // 300), chosen.most // 60}):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "place")
            items = make_repository(folder, seeds)
            rows += [(items, name, child(command, cwd=folder, env=ENVIRONMENT).seconds) for name, command in COMMANDS.items()]
    table = pd.DataFrame(rows, columns=["items", "what", "seconds"])
    shown = table.pivot_table(index="items", columns="what", values="seconds", sort=False).reset_index().round(1).astype(str)
    print(write(Report("items", "DVC by the number of items", table, {"": shown}, NOTES, []), chosen.out, known), end="")


if __name__ == "__main__":
    run_main(main)
