"""Whatever the pixels or the shards: decoding and finding keep their promises."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.decoding import decode
from pipeline.data.shards import find_shards

pytest.importorskip("hypothesis")  # not pinned: pip install hypothesis runs them
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("quick")
SIDES = st.integers(1, 9)


def images(kind: type, channels: int | None = None) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(SIDES, SIDES) if channels is None else st.tuples(SIDES, SIDES, st.just(channels))
    return shapes.flatmap(lambda shape: arrays.arrays(kind, shape))


def encoded(image: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@given(images(np.uint8, 3), st.sampled_from(["PNG", "BMP", "TIFF", "WEBP", "PPM"]))
def test_lossless_colour_comes_back(pixels: np.ndarray, kind: str) -> None:
    content = encoded(pixels, kind, lossless=True)
    np.testing.assert_array_equal(decode(content, channels=None, size=None), pixels.transpose(2, 0, 1))


@given(images(np.uint16), st.sampled_from(["PNG", "TIFF"]))
def test_16_bits_keep_their_order_and_their_level(pixels: np.ndarray, kind: str) -> None:
    got = decode(encoded(pixels, kind), channels=1, size=None)[0]
    assert (np.abs(got / 255 - pixels / 65535) <= 0.5 / 255 + 1e-9).all()


@given(images(np.uint8, 4))
def test_transparency_is_the_weighted_mean_with_white(pixels: np.ndarray) -> None:
    got = decode(encoded(pixels), channels=3, size=None).transpose(1, 2, 0)
    alpha = pixels[..., 3:] / 255
    np.testing.assert_allclose(got, alpha * pixels[..., :3] + (1 - alpha) * 255, atol=1)


@given(images(np.uint8), st.integers(1, 8))
def test_orientation_moves_pixels_and_changes_none(pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = decode(encoded(pixels, exif=exif), channels=1, size=None)[0]
    assert got.shape == (pixels.shape if orientation <= 4 else pixels.shape[::-1])
    assert sorted(got.ravel()) == sorted(pixels.ravel())


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"II*\0", b"RIFF"]))
def test_any_bytes_are_an_image_or_one_line(content: bytes, head: bytes) -> None:
    try:
        said = decode(head + content, channels=None, size=8).shape
    except ValueError as error:
        said = len(str(error).splitlines())
    assert said in (1, (1, 8, 8), (3, 8, 8))


@given(st.integers(1, 12), st.data())
def test_all_shards_or_an_error_that_names_the_missing(total: int, data: st.DataObject) -> None:
    there = data.draw(st.sets(st.integers(0, total - 1), min_size=1))
    suffix = data.draw(st.sampled_from(["", "-3b41bfd3a0b9a3c1"]))
    with tempfile.TemporaryDirectory() as folder:
        for k in there:
            Path(folder, f"train-{k:05}-of-{total:05}{suffix}.parquet").write_text(str(k))
        missing = sorted(set(range(total)) - there)
        if missing:
            with pytest.raises(ValueError, match=f"train-{missing[0]:05}-of-{total:05}"):
                find_shards(folder, "train")
        else:
            assert [file.read_text() for file in find_shards(folder, "train")] == [str(k) for k in range(total)]


@given(st.sets(st.integers(0, 30), min_size=1))
def test_numbers_without_a_total_have_no_gap(numbers: set[int]) -> None:
    complete = numbers in (set(range(len(numbers))), set(range(1, len(numbers) + 1)))
    with tempfile.TemporaryDirectory() as folder:
        for k in numbers:
            Path(folder, f"{k:04}.parquet").write_text(str(k))
        if complete:
            assert len(find_shards(folder, "train")) == len(numbers)
        else:
            with pytest.raises(ValueError, match="missing"):
                find_shards(folder, "train")
