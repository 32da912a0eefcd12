"""Source image_folder on what is found in real folders besides images, and data stage and evaluation on it."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from pipeline.data.class_folders import list_images
from pipeline.data.image_folders import image_folder

LEVELS = {"cat": (10, 20, 30), "dog": (40, 50, 60)}


def save(path: Path, level: int, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path, kind)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Flat grey images: train has three levels a class, test the same plus 100."""
    for split, more in (("train", 0), ("test", 100)):
        for name, levels in LEVELS.items():
            for k, level in enumerate(levels):
                save(tmp_path / split / name / f"{k}.png", level + more)
    return tmp_path


def train_levels(folder: Path) -> list[int]:
    return image_folder(folder=str(folder), size=None, channels=1)[0].images[:, 0, 0, 0].tolist()


def refuses(folder: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        image_folder(folder=str(folder), size=None, channels=1)
    assert "\n" not in str(caught.value)


def test_hidden_files_and_folders_count_for_nothing(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(pets / "train" / "cat", pets / "train" / "cat" / ".ipynb_checkpoints")
    shutil.copytree(pets / "train" / "cat", pets / "train" / ".ipynb_checkpoints")
    (pets / "train" / "dog" / "._0.png").write_bytes(b"\0\5\x16\7")
    (pets / "train" / ".DS_Store").write_bytes(b"")
    assert train_levels(pets) == [10, 20, 30, 40, 50, 60]
    assert "warning" not in capsys.readouterr().err


def test_images_of_any_kind_and_case_are_read(pets: Path) -> None:
    kinds = {"a.GIF": "GIF", "b.jfif": "JPEG", "c.JPG": "JPEG", "d.webp": "WEBP", "e.avif": "AVIF", "f.jp2": "JPEG2000"}
    kinds |= {"g.Tif": "TIFF", "h.tga": "TGA", "i.ico": "ICO"}
    for name, kind in kinds.items():
        save(pets / "train" / "cat" / name, 70, kind)
    got = train_levels(pets)
    assert len(got) == 6 + len(kinds)
    np.testing.assert_allclose(got[3:12], 70, atol=3)


def test_other_files_are_counted_and_named(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat/labels.csv", "cat/Thumbs.db", "dog/notes.csv", "README", "stray.png", "dog/film.mpg"):
        (pets / "train" / name).write_bytes(b"text")
    assert train_levels(pets) == [10, 20, 30, 40, 50, 60]
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "train: passed over 6 files" in warnings[0]
    assert "2 .csv" in warnings[0]
    for name in ("stray.png", "README", "cat/labels.csv"):
        assert name in warnings[0]


def test_the_order_is_that_of_torchvision(pets: Path) -> None:
    for name in ("cat/b/1.png", "cat/a/2.png", "cat/a b/3.png", "cat/a/c/4.png", "dog/10.png", "dog/Z.png", "Ähre/0.png"):
        save(pets / "train" / name, 1)
    theirs = ImageFolder(str(pets / "train"))
    found = list_images(pets / "train")
    assert [(str(path), label) for path, label in zip(found.paths, found.labels, strict=True)] == theirs.samples
    assert found.classes == theirs.classes


def test_links_that_loop_or_meet_give_each_image_once(pets: Path) -> None:
    (pets / "train" / "cat" / "up").symlink_to("..")  # where the dogs are
    (pets / "train" / "cat" / "self").symlink_to(".")
    (pets / "train" / "cat" / "stuck").symlink_to("stuck")
    save(pets / "elsewhere" / "9.png", 99)
    for name in ("first", "second"):
        (pets / "train" / "dog" / name).symlink_to(pets / "elsewhere")
    assert train_levels(pets) == [10, 20, 30, 40, 50, 60, 99]


def test_a_link_to_the_folder_of_another_class_is_refused(pets: Path) -> None:
    for split in ("train", "test"):
        (pets / split / "kitten").symlink_to("cat")
    refuses(pets, "cat and kitten are one folder, but an image is of one class: remove the link")


def test_a_link_to_nothing_is_named(pets: Path) -> None:
    (pets / "train" / "cat" / "gone.png").symlink_to("nowhere.png")
    refuses(pets, r"gone\.png: cannot be read, No such file")


def test_a_folder_in_place_of_an_image_is_named(pets: Path) -> None:
    (pets / "train" / "cat" / "9.PNG").mkdir()
    refuses(pets, r"cat/9\.PNG is a folder, by its name an image")


def test_a_folder_that_may_not_be_read_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir, closed = os.scandir, str(pets / "train" / "cat" / "closed")
    Path(closed).mkdir()

    def refusing(path: str | Path) -> object:  # root, who may run the tests, can read everything
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    refuses(pets, r"cat/closed cannot be read \(Permission denied\)")


def test_all_that_cannot_be_decoded_is_named_at_once_in_both_splits(pets: Path) -> None:
    (pets / "train" / "cat" / "1.png").write_bytes(b"text")
    (pets / "train" / "dog" / "2.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (pets / "test" / "dog" / "0.png").write_bytes(b"")
    refuses(pets, r"^3 of 12 images .*train/cat/1\.png: cannot identify.*train/dog/2\.png: .*LFS.*test/dog/0\.png: it is empty$")


def test_all_classes_without_images_are_named(pets: Path) -> None:
    for name in ("ant", "bee"):
        (pets / "train" / name).mkdir()
    refuses(pets, "train: no image of ant, bee: add some or remove the folder")


def test_a_class_in_test_alone_and_a_single_class(pets: Path) -> None:
    save(pets / "test" / "eel" / "0.png", 1)
    refuses(pets, "only one of them has eel")
    shutil.rmtree(pets / "test" / "eel")
    for split in ("train", "test"):
        shutil.rmtree(pets / split / "dog")
    refuses(pets, "all training images are of one class, cat: at least two are needed")


def test_names_in_any_script(pets: Path) -> None:
    names = ["猫", "कुत्ता", "кот", "قطة", "café"]
    for split in ("train", "test"):
        for k, name in enumerate(names):
            form = "NFD" if split == "train" else "NFC"  # macOS spells é in two characters
            save(pets / split / unicodedata.normalize(form, name) / "ü.png", k)
    train, test, classes = image_folder(folder=str(pets), size=None, channels=1)
    assert classes == sorted(unicodedata.normalize("NFC", name) for name in [*names, "cat", "dog"])
    assert len(set(train.labels)) == len(set(test.labels)) == 7
    for split in ("train", "test"):
        save(pets / split / unicodedata.normalize("NFD", "café") / "1.png", 5)
        save(pets / split / unicodedata.normalize("NFC", "café") / "2.png", 5)
    refuses(pets, "train: several classes are called café")


def test_a_name_that_is_no_text_is_refused(pets: Path) -> None:
    os.mkdir(os.fsencode(pets / "train") + b"/caf\xe9")  # noqa: PTH102 (Latin-1: no Path in UTF-8)
    refuses(pets, r"train: class 0 is called 'caf\\udce9': a name has")


@pytest.mark.parametrize("name", ["cat\nfish", "\u202etac", " "])
def test_an_odd_name_is_refused(pets: Path, name: str) -> None:
    save(pets / "train" / name / "0.png", 1)
    refuses(pets, r"train: class \d is called '.*: a name has 1 to 255 characters of any script")


def test_nothing_is_written_to_the_folder(pets: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pets.rglob("*")}
    train_levels(pets)
    assert {path: path.stat().st_mtime_ns for path in pets.rglob("*")} == before
