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
COPY = re.compile(r"(.+?)(?: ?\(\d+\)|[ _-]+\(?copy\)?[ \d()]*)", re.IGNORECASE)  # as browsers and file managers name one
# Spark's: part-00000-<id of the job>-c000.snappy.parquet. Delta Lake gives each file an id, so that ids may differ by number.
SPARK = re.compile(r"(part-\d+)-(?:tid-\d+-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}).*")
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
    alone. Raises ValueError where there is none, one is missing or by its name there twice, or one is a pointer of Git LFS.
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
    _check_copies(files)
    _check_jobs(files)
    for shards in series.values():
        _check_generation(shards)
        if numbered := [shard for shard in shards if shard.digits]:
            _check_numbers(numbered)


def _check_copies(files: Sequence[Path]) -> None:
    there = set(files)
    for file in files:
        if (said := COPY.fullmatch(file.stem)) and (original := file.with_name(f"{said[1]}.parquet")) in there:
            raise ValueError(f"{file} is by its name a copy of {original.name}, and its images would count twice: take one away")


def _check_jobs(files: Sequence[Path]) -> None:
    """Of a number only one job of Spark has files in a folder."""
    jobs: dict[Path, tuple[str, Path]] = {}
    for file in files:
        if said := SPARK.fullmatch(file.name):
            job, other = jobs.setdefault(file.with_name(said[1]), (said[2], file))
            if job != said[2]:
                raise _two_versions(other, file)


def _check_generation(shards: Sequence[Shard]) -> None:
    """Where one says its total, all say the same. No number comes twice; 0 and 00 are one."""
    by_number: dict[int, Shard] = {}
    for shard in shards:
        if shard.total != shards[0].total:
            raise _two_versions(shards[0].file, shard.file)
        if shard.digits and (other := by_number.setdefault(int(shard.digits), shard)) is not shard:
            raise _two_versions(other.file, shard.file)


def _two_versions(one: Path, other: Path) -> ValueError:
    return ValueError(
        f"{one} and {other.name} are of two versions of one split, whose images would count twice: "
        "keep one version, or name its files; where both belong to the set, move them into folders of their own"
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
