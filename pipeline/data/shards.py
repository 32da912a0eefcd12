"""Which parquet files make up a split: all shards, each once, or an error. A missing or doubled one would make another data set
without a word."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.data.lfs import refuse_pointers

OF_TOTAL = re.compile(r"(.*?)(?<!\d)(\d{1,6})-of-(\d{1,6})(?!\d)(.*)\.parquet")  # the hub's: train-00000-of-00002[-<hash>].parquet
NUMBERED = re.compile(r"(.*?)(?<!\d)(\d{1,6})()()\.parquet")  # 0000.parquet, part-0.parquet, train-0.parquet
YEAR = 1000  # numbers that begin here or later, as in train-2024.parquet, count no shards
NAMED = 10  # of the shards that are missing


class Shard(NamedTuple):
    """What a file's name says: `before` the number, the number's digits, those of the total, and the rest; all may be empty."""

    file: Path
    before: str
    digits: str
    total: str
    rest: str


def find_shards(place: str, split: str) -> list[Path]:
    """The files of a split, sorted by their own names: links into a cache count by theirs, not by their targets'.

    place: a file, a glob, or a folder with SPLIT-*.parquet (in it or below data/), SPLIT.parquet, SPLIT/*.parquet or numbered files
    alone. Raises ValueError where there is none, one is missing or there twice, or one is a pointer of Git LFS.
    """
    path = Path(place).expanduser()
    if path.is_file():
        files = [path.absolute()]
    else:
        files = _in_folder(path, split) if path.is_dir() else _matches(str(path))
        _check_complete(files)
    refuse_pointers(files)
    return files


def target(file: Path) -> Path:
    """What a link leads to; where it leads in a circle, a name that cannot be opened."""
    return Path(os.path.realpath(file))


def _in_folder(folder: Path, split: str) -> list[Path]:
    place, name = glob.escape(str(folder)), glob.escape(split)
    for pattern in (f"{name}-*.parquet", f"data/{name}-*.parquet", f"{name}.parquet", f"{name}/*.parquet", "*.parquet"):
        files = _matches(f"{place}/{pattern}", required=False)
        if files and (pattern != "*.parquet" or all(re.match(r"(part[-_.])?\d", file.name) for file in files)):
            return files
    return _matches(f"{place}/{name}-*.parquet")


def _matches(pattern: str, required: bool = True) -> list[Path]:
    found = sorted(Path(name).absolute() for name in glob.glob(pattern))  # noqa: PTH207 (absolute and relative patterns)
    files = [file for file in found if not file.is_dir()]  # a link to nothing stays, so that it is missed
    if required and not files:
        raise ValueError(
            f"no file {pattern}: fetch the data set's parquet files from the Hugging Face hub and give their file, folder or glob"
        )
    return files


def read_name(file: Path) -> Shard:
    for kind in (OF_TOTAL, NUMBERED):
        if said := kind.fullmatch(file.name):
            return Shard(file, *said.groups())
    return Shard(file, file.name.removesuffix(".parquet"), "", "", "")


def _check_complete(files: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    series = defaultdict[tuple[Path, str], list[Shard]](list)
    for file in files:
        if (other := seen.setdefault(target(file), file)) is not file:
            raise ValueError(f"{other} and {file} are one file, whose images would count twice: take one away")
        shard = read_name(file)
        series[file.parent, shard.before.rstrip("-_.")].append(shard)
    for shards in series.values():
        _check_generation(shards)
        if numbered := [shard for shard in shards if shard.digits]:
            _check_numbers(numbered)


def _check_generation(shards: Sequence[Shard]) -> None:
    """Where one says its total, all say the same, and no number comes twice."""
    by_number: dict[str, Shard] = {}
    for shard in shards if any(shard.total for shard in shards) else ():
        other = by_number.setdefault(shard.digits, shard) if shard.total == shards[0].total else shards[0]
        if other is not shard:
            raise ValueError(
                f"{other.file} and {shard.file.name} are of two versions of one split, whose images would count twice: "
                "keep one version, or name its files"
            )


def _check_numbers(shards: Sequence[Shard]) -> None:
    """From 0 or from 1 on without a gap, as far as the total where the names have one."""
    numbers, total = {int(shard.digits) for shard in shards}, int(shards[0].total or 0)
    if not total and min(numbers) >= YEAR:
        return
    first = int(0 not in numbers and (total or 1) in numbers)
    last = total - 1 + first if total else max(numbers)
    before, after = shards[0].before, f"{f'-of-{shards[0].total}' if total else ''}{'*' if shards[0].rest else ''}.parquet"
    absent = sorted(set(range(first, last + 1)) - numbers)
    missing = [shards[0].file.with_name(f"{before}{number:0{len(shards[0].digits)}}{after}") for number in absent]
    if not total:
        missing = [file for file in missing if not file.exists()]  # a glob may leave one out, as the fold to test on
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f"{', '.join(map(str, missing[:NAMED]))}{more} {verb} missing, which belong to the files there: fetch them too"
        )
