"""Splits, their file, their figures, their picture, and stage data from the shell."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image

from pipeline.data.contact_sheet import contact_sheet
from pipeline.data.image_set import ImageSet, Splits, load_splits, save_splits
from pipeline.data.splits import Sample, channel_statistics, make_splits, split_validation, stratified_order, summarise
from pipeline.runtime.sums import write_sums

ALL: Sample = {"train": "all", "test": "all", "seed": 0}


def made(per_class: list[int], channels: int = 3, side: int = 4) -> ImageSet:
    """Image i is noise, but its first pixel of channel 0 and 1 spells i, so that it can be known again."""
    labels = np.repeat(np.arange(len(per_class)), per_class)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), channels, side, side), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    return ImageSet(images, labels)


def numbers(part: ImageSet) -> list[int]:
    return [int(high) * 256 + int(low) for high, low in part.images[:, 0, 0, :2]]


@pytest.fixture
def splits() -> Splits:
    return make_splits(made([10, 20, 30]), made([2, 2, 2]), ["a", "b", "ü"], fraction=0.2, seed=0, sample=ALL)


def run_stage(folder: Path, name: str, source: dict[str, object] | None = None) -> subprocess.CompletedProcess[str]:
    item = folder / "data/items/digits/data.yaml"
    item.parent.mkdir(parents=True, exist_ok=True)
    source = source or {"name": "sklearn_digits", "test_fraction": 0.2, "seed": 0}
    item.write_text(yaml.safe_dump({"source": source, "sample": ALL, "validation": {"fraction": 0.1, "seed": 0}, "code": {}}))
    write_sums(folder / "data/items")
    command = [sys.executable, "-m", "stages.data", name]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "per_class",
    [
        [10] * 10,
        [1],
        [5, 7],
        [1, 1, 1, 200],
        [2] * 9 + [1000],
        [100, 50, 25, 12, 6, 3, 1],
        [3] * 100,
        [178, 182, 177, 1],
        [13, 3, 8],
    ],
)
def test_every_prefix_of_the_order_is_stratified(per_class: list[int]) -> None:
    counts, total = np.array(per_class), sum(per_class)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(per_class)), per_class))
    order = stratified_order(labels, seed=0)
    assert sorted(order) == list(range(total))
    in_prefix = np.cumsum(labels[order][:, None] == np.arange(len(per_class)), axis=0)  # (N, K)
    assert (np.abs(in_prefix * total - np.arange(1, total + 1)[:, None] * counts) < total).all()  # below 1 image a class


def test_the_order_is_random_within_and_among_the_classes() -> None:
    labels = np.repeat(np.arange(5), 40)
    orders = [stratified_order(labels, seed) for seed in (1, 1, 2)]
    assert orders[0].tolist() == orders[1].tolist() != orders[2].tolist()
    for order in orders[1:]:
        of_class = order[labels[order] == 3]
        assert of_class.tolist() != sorted(of_class)
        rounds = labels[order].reshape(40, 5)
        assert len({tuple(row) for row in rounds.tolist()}) > 20  # not one order of the classes over and over
    first = np.bincount([labels[stratified_order(labels, seed)[0]] for seed in range(500)], minlength=5)
    np.testing.assert_allclose(first, 100, atol=40)


def test_the_first_test_images_are_a_sample_of_the_test_images() -> None:
    train, test = made([60, 60, 60]), made([100, 200, 300])
    options = {"fraction": 0.2, "seed": 0}
    whole = make_splits(train, test, ["a", "b", "c"], **options, sample=ALL).test
    assert sorted(numbers(whole)) == list(range(600))
    np.testing.assert_array_equal(whole.labels, test.labels[numbers(whole)])
    for count in (6, 60, 599):
        part = make_splits(train, test, ["a", "b", "c"], **options, sample={**ALL, "test": count}).test
        assert numbers(part) == numbers(whole)[:count]
    assert np.bincount(whole.labels[:60]).tolist() == [10, 20, 30]
    assert numbers(make_splits(train, test, ["a", "b", "c"], **options, sample={**ALL, "seed": 1}).test) != numbers(whole)


def test_a_sample_of_the_training_images_is_drawn_before_the_validation_split() -> None:
    train, test, classes = made([100, 200, 300]), made([5, 5, 5]), ["a", "b", "c"]
    splits = make_splits(train, test, classes, fraction=0.2, seed=0, sample={"train": 60, "test": "all", "seed": 3})
    assert np.bincount(splits.train.labels).tolist() == [8, 16, 24]
    assert np.bincount(splits.validation.labels).tolist() == [2, 4, 6]
    for part in (splits.train, splits.validation):
        assert numbers(part) == sorted(numbers(part))  # the order of the source
        np.testing.assert_array_equal(part.images, train.images[numbers(part)])
    assert max(numbers(splits.train)) > 500
    other = make_splits(train, test, classes, fraction=0.2, seed=0, sample={"train": 60, "test": "all", "seed": 4})
    assert numbers(other.train) != numbers(splits.train)


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        ({"train": 61}, "sample.train: 61 of 60 images, must be all or 3 to 60"),
        ({"train": 2}, "sample.train: 2 of 60 images, must be all or 3 to 60"),
        ({"test": 21}, "sample.test: 21 of 20 images, must be all or 10 to 20"),
        ({"test": 9}, "sample.test: 9 of 20 images, must be all or 10 to 20"),  # could be without class c
    ],
)
def test_a_sample_that_cannot_be_drawn(sample: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_splits(made([20, 20, 20]), made([9, 9, 2]), ["a", "b", "c"], fraction=0.2, seed=0, sample={**ALL, **sample})


def test_validation_is_stratified() -> None:
    train, validation = split_validation(made([10, 20, 30]), fraction=0.2, seed=0)
    assert np.bincount(validation.labels).tolist() == [2, 4, 6]  # a fifth of each
    assert np.bincount(train.labels).tolist() == [8, 16, 24]


def test_validation_and_train_are_disjoint_and_together_all() -> None:
    whole = made([150, 250])
    train, validation = split_validation(whole, fraction=0.1, seed=3)
    assert sorted(numbers(train) + numbers(validation)) == list(range(400))
    for part in (train, validation):  # labels went along with their images, order is that of the source
        assert numbers(part) == sorted(numbers(part))
        np.testing.assert_array_equal(part.labels, whole.labels[numbers(part)])
        np.testing.assert_array_equal(part.images, whole.images[numbers(part)])


def test_the_seed_decides_which_images() -> None:
    drawn = [numbers(split_validation(made([50, 50]), fraction=0.2, seed=seed)[1]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("per_class", "fraction", "problem"),
    [
        ([10, 1], 0.5, "class 1 has 1 image"),
        ([5, 5, 5], 0.1, "15 images of 3 classes"),  # 2 validation images
        ([5, 5, 5], 0.9, "15 images of 3 classes"),  # 1 to train on
        ([100, 3], 0.05, "class 1 has 3 images"),  # 6 validation images, all of class 0
    ],
)
def test_too_few_images_of_a_class(per_class: list[int], fraction: float, problem: str) -> None:
    with pytest.raises(ValueError, match=f"{problem}.*change the fraction"):
        split_validation(made(per_class), fraction, seed=0)


def test_statistics_equal_numpy_across_chunks() -> None:
    images = made([1500, 777]).images  # more than one chunk, the last not full
    mean, std = channel_statistics(images)
    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_statistics_are_those_of_the_train_split_alone(splits: Splits) -> None:
    np.testing.assert_allclose(splits.mean, (splits.train.images / 255).mean(axis=(0, 2, 3)), rtol=1e-12)


def test_statistics_worked_by_hand() -> None:
    images = np.array([[[[0, 255]]], [[[255, 255]]]], dtype=np.uint8)  # mean 3/4, variance 3/4 - 9/16
    mean, std = channel_statistics(images)
    np.testing.assert_allclose((mean[0], std[0]), (0.75, np.sqrt(3) / 4), rtol=1e-12)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 3, 4, 4), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64)),  # channels last
        (np.zeros((0, 3, 4, 4), np.uint8), np.zeros(0, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.array([0, -1])),
    ],
)
def test_image_set_refuses(images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageSet(images, labels)


def test_splits_refuse_what_does_not_fit_together() -> None:
    train = made([10, 10])
    with pytest.raises(ValueError, match="label 2, but there are 2 classes"):
        make_splits(train, made([1, 1, 1]), ["a", "b"], fraction=0.2, seed=0, sample=ALL)
    with pytest.raises(ValueError, match="one shape"):
        make_splits(train, made([1, 1], side=5), ["a", "b"], fraction=0.2, seed=0, sample=ALL)
    with pytest.raises(ValueError, match="names must differ"):
        make_splits(train, made([1, 1]), ["a", "a"], fraction=0.2, seed=0, sample=ALL)
    black = ImageSet(np.zeros_like(train.images), train.labels)
    with pytest.raises(ValueError, match="std above 0"):
        make_splits(black, made([1, 1]), ["a", "b"], fraction=0.2, seed=0, sample=ALL)


def test_saved_splits_come_back_and_give_the_same_bytes(splits: Splits, tmp_path: Path) -> None:
    save_splits(tmp_path / "new" / "a.npz", splits)
    back = load_splits(tmp_path / "new" / "a.npz")
    for name, part in splits.parts().items():
        np.testing.assert_array_equal(back.parts()[name].images, part.images)
        np.testing.assert_array_equal(back.parts()[name].labels, part.labels)
    assert back.classes == ["a", "b", "ü"]
    np.testing.assert_array_equal((back.mean, back.std), (splits.mean, splits.std))
    save_splits(tmp_path / "a.npz", back)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "new" / "a.npz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    save_splits(path, splits)
    before = path.read_bytes()

    def full_disk(file: io.BufferedWriter, **_: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_splits(path, splits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_unusable_file_is_one_clear_error(splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r"does not exist.*dvc repro"):
        load_splits(path)
    save_splits(path, splits)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1  # a pixel: the zip checksum finds it
    bare, pickled, foreign = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(bare, np.zeros(3))
    np.savez(pickled, train_images=np.array([{}]))
    np.savez(foreign, x=np.zeros(3))
    save_splits(tmp_path / "b.npz", splits)
    another = (tmp_path / "b.npz").read_bytes()
    made = [b.getvalue() for b in (bare, pickled, foreign)]
    contents = [b"", b"text", whole[: len(whole) // 2], bytes(flipped), *made, another]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz is cut off, damaged or not made by stage data.*dvc checkout.*dvc repro"):
            load_splits(path)
    with pytest.raises(ValueError, match="it is the data set b"):
        load_splits(path)


def test_summary(splits: Splits) -> None:
    summary = summarise(splits)
    assert summary["images"] == {"train": 48, "validation": 12, "test": 6}
    assert summary["images_per_class"] == {
        "train": {"a": 8, "b": 16, "ü": 24},
        "validation": {"a": 2, "b": 4, "ü": 6},
        "test": {"a": 2, "b": 2, "ü": 2},
    }
    assert summary["shape"] == [3, 4, 4]
    assert summary["mean"] == [round(float(m), 6) for m in splits.mean]
    assert json.loads(json.dumps(summary)) == summary


def test_contact_sheet_shows_the_pixels_of_the_class(splits: Splits) -> None:
    png = contact_sheet(splits.train, splits.classes)
    assert png == contact_sheet(splits.train, splits.classes)
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    places = []
    for label in range(3):  # 4x4 pixels enlarged 12 times
        image = splits.train.images[splits.train.labels == label][7].transpose(1, 2, 0)
        tile = image.repeat(12, axis=0).repeat(12, axis=1)
        candidates = np.argwhere((sheet[:-47, :-47] == tile[0, 0]).all(axis=2))
        places += [(y, x) for y, x in candidates if (sheet[y : y + 48, x : x + 48] == tile).all()]
    (y0, x0), (y1, x1), (y2, x2) = places  # each once: a row below the other, in one column
    assert x0 == x1 == x2
    assert y0 < y1 < y2
    assert (sheet[y0 : y0 + 48, x0 + 48 :] == 255).all()  # class a has no ninth image
    assert y0 > 14  # the height of the title, which stands above
    assert (sheet[: y0 - 4] < 128).any()
    assert (sheet[y0 - 4 : y0] == 255).all()


def test_contact_sheet_ends_below_the_last_class_and_beside_its_tenth_image() -> None:
    part = made([12, 12], channels=1, side=4)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(part, ["a", "b"]))))
    tenth = part.images[part.labels == 1][9, 0].repeat(12, axis=0).repeat(12, axis=1)
    assert (sheet[-52:-4, -52:-4, 0] == tenth).all()  # 48 pixels and a gap of 4


@pytest.mark.parametrize(("classes", "side"), [(100, 4), (2, 300)])
def test_contact_sheet_stays_small(classes: int, side: int) -> None:
    png = contact_sheet(made([2] * classes, channels=1, side=side), [f"class {k} with a long name indeed" for k in range(classes)])
    width, height = Image.open(io.BytesIO(png)).size
    assert width < 1300
    assert height < 20 * 100 + 50


def test_stage_writes_everything_and_the_same_again(tmp_path: Path) -> None:
    done = run_stage(tmp_path, "digits")
    assert done.returncode == 0, done.stderr
    outs = [tmp_path / "data/digits.npz", tmp_path / "metrics/data/digits.json", tmp_path / "metrics/data/digits.png"]
    before = [out.read_bytes() for out in outs]
    summary = json.loads(before[1])
    assert summary["images"] == {"train": 1293, "validation": 144, "test": 360}  # 1797 x 0.2 and 1437 x 0.1, rounded up
    assert len(load_splits(outs[0]).train.labels) == 1293
    assert "1293" in done.stdout
    assert run_stage(tmp_path, "digits").returncode == 0
    assert [out.read_bytes() for out in outs] == before


def test_stage_names_the_item_that_is_missing(tmp_path: Path) -> None:
    done = run_stage(tmp_path, "nosuch")
    assert done.returncode == 2
    assert "data/items/nosuch/data.yaml does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(tmp_path) == ["data/items/digits/data.yaml", "data/items/sha256sums"]


def test_stage_failure_writes_nothing(tmp_path: Path) -> None:
    options = {"train": "nowhere", "test": "nowhere", "image_column": None, "label_column": None, "sha256sums": None}
    done = run_stage(tmp_path, "digits", {"name": "parquet", **options})
    assert done.returncode == 2
    assert "no file nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(tmp_path) == ["data/items/digits/data.yaml", "data/items/sha256sums"]


def test_importing_the_room_is_light() -> None:
    code = "import pipeline.data, sys; print([m for m in 'torch torchvision sklearn pyarrow PIL tqdm'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
