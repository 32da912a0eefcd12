"""Which files make up a split, by names alone: the files are empty."""

import re
from pathlib import Path

import pytest

from pipeline.data.shards import find_shards


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)  # links to equal files are still two files
    return folder


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def refuses(place: Path | str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        find_shards(str(place), "train")
    assert "\n" not in str(caught.value)


A, B = "3b1c9a52-0b5e-4c8e-9a55-6a7d0f1e2c3d", "9f0e8d7c-6b5a-4f3e-8d2c-1b0a9f8e7d6c"  # ids of two Spark jobs
COMPLETE = {
    "hub": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
    "hub with hashes": ["train-00000-of-00002-3b41bfd3a0b9a3c1.parquet", "train-00001-of-00002-9b1e4c4c0dbd5c1a.parquet"],
    "from 1": ["train-1-of-2.parquet", "train-2-of-2.parquet"],
    "numbered": ["train-0.parquet", "train-1.parquet"],
    "one": ["train.parquet"],
    "years": ["train-2019.parquet", "train-2023.parquet"],
    "dates": ["train-20190101.parquet", "train-20200101.parquet"],
    "converted by the hub": ["0000.parquet", "0001.parquet"],
    "pyarrow's": ["part-0.parquet", "part-1.parquet"],
    "dask's": ["part.0.parquet", "part.1.parquet"],
    "spark's, two files a task": ["part-00000-8c1d-c000.snappy.parquet", "part-00000-8c1d-c001.snappy.parquet"],
    "delta lake's": [f"part-00000-{A}-c000.snappy.parquet", f"part-00001-{B}-c000.snappy.parquet"],  # an id a file
    "spark's": ["part-00000-8c1d-c000.snappy.parquet", "part-00003-8c1d-c000.snappy.parquet"],  # empty ones are not written
}


@pytest.mark.parametrize("layout", COMPLETE)
def test_a_complete_split_is_found(tmp_path: Path, layout: str) -> None:
    files = COMPLETE[layout]
    make(tmp_path, *files, "test-00000-of-00001.parquet" if "train" in files[0] else "README.md", "._train-0.parquet")
    assert names(find_shards(str(tmp_path), "train")) == files
    glob = "train*" if "train" in files[0] else "*"
    assert names(find_shards(f"{tmp_path}/{glob}.parquet", "train")) == files


@pytest.mark.parametrize("below", ["data", "train"])
def test_folders_of_the_hub(tmp_path: Path, below: str) -> None:
    files = COMPLETE["hub"] if below == "data" else COMPLETE["converted by the hub"]
    make(tmp_path / below, *files)
    assert names(find_shards(str(tmp_path), "train")) == files


def test_a_folder_of_another_split_is_not_taken_for_this_one(tmp_path: Path) -> None:
    refuses(make(tmp_path, "validation-00000-of-00001.parquet"), r"no file .*train-\*\.parquet: fetch")


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], r"/train-00001-of-00003\.parquet is missing"),
        (["train-00001-of-00002-3b41.parquet"], r"/train-00000-of-00002\*\.parquet is missing"),
        (["train-00000-of-00004.parquet"], r"/train-00001-of-00004\.parquet, .*00002-of.*, .*00003-of.* are missing"),
        (["train-0.parquet", "train-2.parquet"], r"/train-1\.parquet is missing"),
        (["0001.parquet", "0003.parquet"], r"/0002\.parquet is missing"),
        (["0002.parquet"], r"/0000\.parquet, .*0001\.parquet are missing"),
        (["part-0.parquet", "part-3.parquet"], r"part-1\.parquet, .*part-2\.parquet are missing"),
    ],
)
def test_a_gap_is_named(tmp_path: Path, files: list[str], missing: str) -> None:
    refuses(make(tmp_path, *files), missing)


def test_a_file_named_by_itself_needs_no_others(tmp_path: Path) -> None:
    make(tmp_path, "train-00001-of-00003.parquet")
    assert len(find_shards(str(tmp_path / "train-00001-of-00003.parquet"), "train")) == 1


def test_a_glob_may_leave_out_a_numbered_file_that_is_there(tmp_path: Path) -> None:
    make(tmp_path, *(f"fold-{k}.parquet" for k in range(1, 6)))
    assert names(find_shards(f"{tmp_path}/fold-[1245].parquet", "train")) == [f"fold-{k}.parquet" for k in (1, 2, 4, 5)]
    (tmp_path / "fold-3.parquet").unlink()
    refuses(f"{tmp_path}/fold-[1245].parquet", r"fold-3\.parquet is missing")


@pytest.mark.parametrize(
    "files",
    [
        ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        ["train-00000-of-00001-3b41.parquet", "train-00000-of-00001-9b1e.parquet"],
        ["train-00000-of-00001.parquet", "train-0.parquet"],
        ["train-0.parquet", "train-00.parquet"],
        ["train-1.parquet", "train-01.parquet", "train-2.parquet"],
        ["train-2024.parquet", "train-02024.parquet"],
        ["0000.parquet", "00000.parquet"],
        ["part-0.parquet", "part_0.parquet"],
        [f"part-00000-{A}-c000.snappy.parquet", f"part-00000-{B}-c000.snappy.parquet"],
        [f"part-0000{k}-{job}-c000.snappy.parquet" for k in (0, 1) for job in (A, B)],
        [f"part-00000-tid-5066838254217187042-{A}-26-1-c000.snappy.parquet", f"part-00000-tid-7-{B}-26-1-c000.snappy.parquet"],
    ],
)
def test_two_versions_side_by_side_are_refused(tmp_path: Path, files: list[str]) -> None:
    refuses(make(tmp_path, *files), "two versions of one split, whose images would count twice")


@pytest.mark.parametrize(
    ("original", "copy"),
    [
        ("train.parquet", "train (1).parquet"),
        ("train.parquet", "train(1).parquet"),
        ("train.parquet", "train copy.parquet"),
        ("train.parquet", "train copy 2.parquet"),
        ("train.parquet", "train (copy).parquet"),
        ("train.parquet", "train - Copy.parquet"),
        ("train.parquet", "train - Copy (2).parquet"),
        ("train-0.parquet", "train-0 (1).parquet"),
        ("train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"),
        ("train-20190101.parquet", "train-20190101 (1).parquet"),
    ],
)
def test_a_copy_beside_its_original_is_refused(tmp_path: Path, original: str, copy: str) -> None:
    make(tmp_path, original, copy)
    refuses(f"{tmp_path}/train*.parquet", f"/{re.escape(copy)} is by its name a copy of {re.escape(original)}, .* count twice")


def test_a_second_download_of_what_is_gone_is_no_copy(tmp_path: Path) -> None:
    make(tmp_path, "train-0.parquet", "train-1 (1).parquet")
    assert len(find_shards(str(tmp_path), "train")) == 2


def test_names_like_those_of_copies_without_their_original_are_accepted(tmp_path: Path) -> None:
    make(tmp_path, "train (1).parquet", "train (2).parquet", "photo.parquet", "photocopy.parquet")
    assert len(find_shards(f"{tmp_path}/*.parquet", "train")) == 4


def test_two_spark_jobs_in_folders_of_their_own_are_one_set(tmp_path: Path) -> None:
    make(tmp_path, f"a/part-00000-{A}-c000.snappy.parquet", f"b/part-00000-{B}-c000.snappy.parquet")
    assert len(find_shards(f"{tmp_path}/*/*.parquet", "train")) == 2


def test_links_into_a_cache_count_by_their_own_names(tmp_path: Path) -> None:
    make(tmp_path / "blobs", "f0", "a1", "c2")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for k, blob in enumerate(["f0", "a1"]):
        (snapshot / f"train-{k:05}-of-00003.parquet").symlink_to(f"../blobs/{blob}")
    refuses(snapshot, r"train-00002-of-00003\.parquet is missing")
    last = snapshot / "train-00002-of-00003.parquet"
    last.symlink_to("../blobs/c2")
    files = find_shards(str(snapshot), "train")
    assert [file.read_text() for file in files] == ["f0", "a1", "c2"]
    assert names(files)[0] == "train-00000-of-00003.parquet"
    last.unlink()
    last.symlink_to("../blobs/a1")
    refuses(snapshot, "00001-of-00003.parquet and .*00002-of-00003.parquet are one file")


def test_all_pointers_are_named(tmp_path: Path) -> None:
    make(tmp_path, "train-0.parquet", "train-1.parquet", "train-2.parquet")
    for k in (0, 2):
        (tmp_path / f"train-{k}.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refuses(tmp_path, r"Git LFS pointer .*`git lfs pull`.*train-0\.parquet, .*train-2\.parquet$")
