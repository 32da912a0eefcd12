"""A folder of images or parquet files with one fault each, drawn: of the kinds that copying, unpacking and editing leave behind."""

import io
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("cat", "dog", "owl")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n".format("0" * 64)
Fault = Callable[[Path, random.Random], str]


def write_folder(folder: Path) -> None:
    """folder/train/<class>/*.png and test, 8x8, grey."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / split / name / f"{number}.png")


def write_parquet(folder: Path) -> None:
    """folder/train-0000X-of-00003.parquet and test-00000-of-00001.parquet of images like those, as on the hub."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, shards in (("train", 3), ("test", 1)):
        for shard in range(shards):
            write_shard(
                folder / f"{split}-{shard:05d}-of-{shards:05d}.parquet", [_png(draws) for _ in range(6)], [0, 1, 2, 0, 1, 2]
            )


def write_shard(
    path: Path, images: Sequence[bytes | None], labels: Sequence[int | None], names: tuple[str, str] = ("image", "label")
) -> None:
    cells = [content if content is None else {"bytes": content, "path": None} for content in images]
    pq.write_table(pa.table(dict(zip(names, (cells, labels), strict=True))), path)


def _png(draws: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def cut_off(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return f"{path.relative_to(folder)} cut off at byte {path.stat().st_size}"


def another_bit(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"a bit of byte {place} of {path.relative_to(folder)}"


def no_image(folder: Path, rng: random.Random) -> str:
    path, content = _any(folder, rng), rng.choice([POINTER, "<html>404</html>", "", "\0" * 200])
    path.write_text(content)
    return f"{path.relative_to(folder)} holds {content[:20]!r}"


def gone(folder: Path, rng: random.Random) -> str:
    """A class, a split or a shard."""
    path = rng.choice([path for path in folder.rglob("*") if path.is_dir() or path.suffix == ".parquet"])
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"no {path.relative_to(folder)}"


def unreadable(folder: Path, rng: random.Random) -> str:
    """A link that leads nowhere, or in a circle; a folder where a file should be."""
    path = _any(folder, rng)
    path.unlink()
    kind = rng.choice(["nowhere", "itself", "a folder"])
    if kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("gone" if kind == "nowhere" else path.name)
    return f"{path.relative_to(folder)} is {kind}"


def beside(folder: Path, rng: random.Random) -> str:
    """A file that is no part of the set; to be passed over."""
    target = rng.choice([folder, *(path for path in folder.rglob("*") if path.is_dir())])
    name = rng.choice([".DS_Store", "._0.png", "Thumbs.db", "README.md", ".ipynb_checkpoints/0.png", "0.png.part", "notes.txt"])
    path = target / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(50))
    return f"{path.relative_to(folder)} beside the images"


def other_size(folder: Path, rng: random.Random) -> str:
    path = rng.choice(sorted(folder.rglob("*.png")))
    size = (rng.randint(1, 20), rng.randint(1, 20))
    Image.new("L", size, 7).save(path)
    return f"{path.relative_to(folder)} is {size[0]}x{size[1]}"


def two_generations(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    name = rng.choice(
        ["train-00000-of-00002.parquet", "train-00003-of-00004.parquet", "train-00000-of-00003-0123456789abcdef.parquet"]
    )
    shutil.copy(path, folder / name)
    return f"{name} too"


def other_columns(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    image, label = rng.choice([("image", "target"), ("picture", "label"), ("bytes", "y")])
    write_shard(path, [_png(np.random.default_rng(1)) for _ in range(6)], [0, 1, 2, 0, 1, 2], (image, label))
    return f"columns {image}, {label} in {path.name}"


def bad_row(folder: Path, rng: random.Random) -> str:
    path, draws = _any(folder, rng), np.random.default_rng(2)
    images: list[bytes | None] = [_png(draws) for _ in range(6)]
    labels: list[int | None] = [0, 1, 2, 0, 1, 2]
    row, what = rng.randrange(6), rng.choice(["no image", "no bytes of an image", "no label", "label -1", "label 10000000"])
    match what:
        case "no image":
            images[row] = None
        case "no bytes of an image":
            images[row] = os.urandom(rng.randrange(60))
        case "no label":
            labels[row] = None
        case _:
            labels[row] = int(what.split()[1])
    write_shard(path, images, labels)
    return f"{what} in row {row} of {path.name}"


FAULTS: dict[str, tuple[Fault, ...]] = {
    "folder": (cut_off, another_bit, no_image, gone, unreadable, beside, other_size),
    "parquet": (cut_off, another_bit, no_image, gone, unreadable, beside, two_generations, other_columns, bad_row),
}


def _any(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.rglob("*.p*") if path.is_file()))
