"""What may be wrong with a set as a whole; names of classes in the picture of a data set; images to judge a model on."""

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from pipeline.data.array_files import read_arrays
from pipeline.data.checks import check_classes, check_names, warn_of_doubles
from pipeline.data.contact_sheet import contact_sheet
from pipeline.data.image_set import ImageSet
from pipeline.jobs.given_data import read_images
from pipeline.params.schema import load_params

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("train", "test", "classes", "problem"),
    [
        (labels(0, 1), labels(0, 1), ["a", "b", "a", "b"], "x: several classes are called a, b"),
        (labels(1, 1), labels(1), ["a", "b"], "of one class, b"),
        (labels(0, 1), labels(0, 2, 3), ["a", "b", "c", "d"], "classes in test without training images: c, d"),
    ],
)
def test_classes_that_cannot_be_learnt(train: np.ndarray, test: np.ndarray, classes: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_classes("x", train, test, classes)


ODD = {
    "empty": "",
    "spaces": " \u3000",
    "joiner alone": "\u200d",
    "newline": "cat\ndog",
    "carriage return": "cat\r",
    "next line": "cat\x85dog",
    "line separator": "cat\u2028dog",
    "paragraph separator": "cat\u2029dog",
    "tab": "cat\tdog",
    "nul": "cat\0",
    "delete": "cat\x7f",
    "surrogate": "cat\ud800",
    "override": "cat\u202egod",
    "isolate": "\u2067cat\u2069",
    "right-to-left mark": "cat\u200f",
    "long": "x" * 256,
}


@pytest.mark.parametrize("kind", ODD)
def test_a_name_that_is_no_name_is_refused_in_one_line(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^pets: class 1 is called '.*: a name has 1 to 255 characters of any script") as caught:
        check_classes("pets", labels(0, 1), labels(0, 1), ["ant", ODD[kind]])
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    assert said.isascii()


def test_names_that_look_alike_and_many_odd_ones() -> None:
    with pytest.raises(ValueError, match="pets: several classes are called café, perhaps in different code points"):
        check_names("pets", ["caf\u00e9", "tea", "cafe\u0301"])
    with pytest.raises(ValueError, match=r"class 0 is called '', .*9 is called '', and 990 more: a name") as caught:
        check_names("pets", [""] * 1000)
    assert len(str(caught.value)) < 500


def test_names_of_any_script_are_allowed_and_drawn() -> None:
    names = ["a", "x" * 255, "猫", "कुत्ता", "кот", "قطة", "חתול", "می\u200cشود", "แมว", "\U0001f3f3\ufe0f\u200d\U0001f308"]
    names += ["T - shirt / top", "0", "a, b; 'c'", "cafe\u0301"]
    check_names("pets", names)
    part = ImageSet(IMAGES[:2], labels(0, 1))
    for name in names:
        assert contact_sheet(part, [name, "other"])


def test_classes_without_images_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    check_classes("x", labels(0, 1, 3), labels(0, 1), ["a", "b", "c", "d"])
    assert capsys.readouterr().err.splitlines() == [
        "warning: x: no image at all of c, which count as classes all the same",
        "warning: x: no image in test of d",
    ]


def test_doubled_images_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_doubles("x", (IMAGES[:3], labels(0, 1, 0)), (IMAGES[3:], labels(0, 1, 0)))
    assert capsys.readouterr().err == ""
    train, test = IMAGES[[0, 1, 2, 2, 2]], IMAGES[[1, 2, 3]]
    warn_of_doubles("x", (train, labels(0, 1, 0, 0, 0)), (test, labels(1, 1, 0)))
    assert capsys.readouterr().err.splitlines() == [
        "warning: x: 2 of 3 images in test are in train too, 1 of them with another label",
        "warning: x: 2 of 5 images in train are there a second time",
    ]


def test_images_to_judge_on_are_read_as_the_source_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for split in ("train", "test"):
        for k, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.rot90(upright + k)).save(tmp_path / split / name / "0.png", exif=exif)
    arrays = read_images(str(tmp_path), {"channels": 1}, load_params(ROOT / "params.yaml"))
    assert arrays.train is not None
    np.testing.assert_array_equal(arrays.train.images[0, 0], upright)  # 6: turn it clockwise to see it
    assert "2 of 2 images in test are in train too" in capsys.readouterr().err


def test_an_npz_that_is_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"Git LFS pointer .*a\.npz"):
        read_arrays(tmp_path / "a.npz")


def test_an_npz_with_odd_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:2], labels=labels(0, 1), classes=np.array(["a", "b\nc"]))
    with pytest.raises(ValueError, match=r"a\.npz: class 1 is called 'b\\nc': a name has"):
        read_arrays(tmp_path / "a.npz")


def test_names_of_classes_in_other_scripts_are_drawn_or_said(capsys: pytest.CaptureFixture[str]) -> None:
    part = ImageSet(IMAGES[:2], labels(0, 1))
    assert contact_sheet(part, ["кот", "σκύλος"]) != contact_sheet(part, ["кит", "σκύλος"])
    assert capsys.readouterr().err == ""
    contact_sheet(part, ["猫", "dog"])
    assert capsys.readouterr().err.splitlines() == [
        "warning: the picture of the data set shows numbers for 猫: its font does not have these letters"
    ]
