"""Whether DVC's cache and the outputs of a run are what dvc.lock says. DVC itself goes by the name of an object in its cache, and
by size and time of a file."""

import hashlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tqdm import tqdm

OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")


class Found(NamedTuple):
    """objects: of the cache that differ from their name, each with the outputs that it holds; outputs: that are there and differ
    from dvc.lock, with their stage; checked: how many objects and files there are."""

    objects: dict[Path, list[str]]
    outputs: dict[Path, str]
    checked: int


def verify(folder: Path) -> Found:
    """folder: that of dvc.lock. Raises ValueError where it cannot be read."""
    cache, lock = cache_folder(folder), read_lock(folder / "dvc.lock")
    objects = [path for path in sorted(cache.glob("*/*")) if OBJECT.fullmatch(path.relative_to(cache).as_posix())]
    names, wanted = defaultdict[str, list[str]](list), dict[Path, tuple[str, str]]()  # by digest; by file: digest and stage
    for stage, path, digest in outputs(lock, cache):
        names[digest].append(f"{path} of {stage}")
        if (folder / path).is_file():
            wanted[folder / path] = digest, stage
    with tqdm(total=sum(path.stat().st_size for path in [*objects, *wanted]), unit="B", unit_scale=True, mininterval=0.5) as bar:
        damaged = {path: names[name(path)] for path in objects if md5(path, bar) != name(path).removesuffix(".dir")}
        differing = {path: stage for path, (digest, stage) in wanted.items() if md5(path, bar) != digest}
    return Found(damaged, differing, len(objects) + len(wanted))


def cache_folder(folder: Path) -> Path:
    """Where DVC keeps objects, also where its config moves it."""
    done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{folder.resolve()} is no folder of DVC: {done.stderr.strip().splitlines()[-1]}")
    return Path(folder, done.stdout.strip(), "files/md5")


def read_lock(path: Path) -> dict[str, Any]:
    """The stages of a dvc.lock."""
    if not path.is_file():
        raise ValueError(f"there is no {path}: nothing has been run here")
    try:
        return dict(yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}): bring it back with git checkout") from error


def outputs(stages: dict[str, Any], cache: Path) -> Iterator[tuple[str, Path, str]]:
    """Stage, path and digest of every output, and of every file in those that are folders, as far as the cache lists them."""
    for stage, own in stages.items():
        for out in own.get("outs", []):
            path, digest = Path(out["path"]), str(out["md5"])
            yield stage, path, digest
            for entry in entries(cache / digest[:2] / digest[2:]) if digest.endswith(".dir") else ():
                yield stage, path / entry["relpath"], entry["md5"]


def entries(listing: Path) -> list[dict[str, str]]:
    """Of a folder; none where the listing is missing, or damaged, which its digest tells."""
    try:
        return list(json.loads(listing.read_bytes()))
    except (OSError, ValueError):
        return []


def name(path: Path) -> str:
    """The digest that an object is named after."""
    return path.parent.name + path.name


def md5(path: Path, bar: "tqdm[Any]") -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
            bar.update(len(part))
    return digest.hexdigest()
