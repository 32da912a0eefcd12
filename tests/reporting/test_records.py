"""Files of stage attack that are of another model, or not whole, stop stage tables; so does what is changed in its own tables."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_run import made_item, make_run

from pipeline.reporting.files import read_lines, read_record, read_table, read_text
from pipeline.reporting.measurements import load_cost
from pipeline.reporting.records import check_models, check_transfer
from pipeline.runtime.sums import SUMS, write_sums

ATTACKS, VERDICT = Path("data/attacks/digits/hcp/0"), Path("data/verdict/digits/hcp/0")
TRANSFER = Path("data/transfer/digits/0")
METHODS = ["softmax_fs", "hcp", "at"]


@pytest.fixture
def in_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, 40, made_item(METHODS))
    monkeypatch.chdir(tmp_path)


def check() -> None:
    check_models(Path("data"), datasets=["digits"], methods=METHODS, seeds=[0])
    sources = ["vgg", "vgg_at_fgsm"]
    check_transfer(Path("data/transfer"), datasets=["digits"], seeds=[0], sources=sources, methods=METHODS)


def rewrite(path: Path, keep: Callable[[pd.DataFrame], pd.Series]) -> None:
    rows = pd.read_parquet(path)
    rows[keep(rows)].to_parquet(path, index=False)


def from_at(path: Path) -> None:
    path.write_bytes(Path(str(path).replace("hcp", "at")).read_bytes())


def other_check() -> None:
    checks = json.loads((VERDICT / "checks.json").read_text())
    (VERDICT / "checks.json").write_text(json.dumps({**checks, "flat_gradient": 7.0}))


def cut(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "record of another": (lambda: from_at(ATTACKS / "run.json"), "is of the model digits/at/0, not of digits/hcp/0"),
    "record half": (lambda: (ATTACKS / "run.json").write_text('{"model": "dig'), "run.json is damaged"),
    "attacks of another": (
        lambda: from_at(ATTACKS / "outcomes.parquet"),
        "attacks/.*parquet is not whole, or of another",
    ),
    "verdict of another": (
        lambda: from_at(VERDICT / "outcomes.parquet"),
        "verdict/.*parquet is not whole, or of another",
    ),
    "checks of another": (other_check, "check/flat_gradient is 7.0 in it, 0.5 in"),
    "half of the images": (
        lambda: rewrite(VERDICT / "outcomes.parquet", lambda rows: rows["image"] % 2 == 0),
        "outcomes.parquet is not whole: images of clean are missing",
    ),
    "the first images": (
        lambda: rewrite(ATTACKS / "outcomes.parquet", lambda rows: rows["image"] < 30),
        "attacks/.*outcomes.parquet is not whole, or of another model",
    ),
    "an attack less": (
        lambda: rewrite(VERDICT / "outcomes.parquet", lambda rows: rows["attack"] != "unbounded"),
        "has accuracy/unbounded_1, which no other file",
    ),
    "a part less": (
        lambda: rewrite(VERDICT / "outcomes.parquet", lambda rows: rows["attack"] != "autoattack/apgd_ce"),
        "parts of autoattack are missing",
    ),
    "no prototypes": (lambda: (VERDICT / "prototypes.parquet").unlink(), "has membership/broken, which no other file"),
    "examples of another": (
        lambda: shutil.copy(VERDICT / "examples.npz", "data/verdict/digits/at/0"),
        "at/0/examples.npz is not whole, or of another model",
    ),
    "transfer cut in a line": (lambda: TRANSFER.with_suffix(".csv").write_text("source,target\nvgg,"), "0.csv is damaged"),
    "transfer cut at a line": (lambda: cut(TRANSFER.with_suffix(".csv"), 9), "0.csv and .*0.parquet differ: one is not whole"),
    "transfer half": (
        lambda: rewrite(TRANSFER.with_suffix(".parquet"), lambda rows: rows["image"] < 20),
        "0.csv and .*0.parquet differ: one is not whole",
    ),
    "transfer of another set": (lambda: transfer_of(dataset="cifar10"), r"0.parquet is damaged \(it is of dataset cifar10\)"),
    "transfer of another seed": (lambda: transfer_of(seed=1), r"0.parquet is damaged \(it is of seed 1\)"),
}


def transfer_of(**origin: str | int) -> None:
    """Both files, as they are for another data set or seed."""
    outcomes, table = TRANSFER.with_suffix(".parquet"), TRANSFER.with_suffix(".csv")
    pd.read_parquet(outcomes).assign(**origin).to_parquet(outcomes)
    pd.read_csv(table).assign(**origin).to_csv(table, index=False)


@pytest.mark.usefixtures("in_run")
@pytest.mark.parametrize("damage", DAMAGE)
def test_files_of_another_model_or_not_whole_are_one_line(damage: str) -> None:
    check()
    do, said = DAMAGE[damage]
    do()
    with pytest.raises(ValueError, match=said) as error:
        check()
    assert "\n" not in str(error.value)
    assert re.search(r"delete .* and run `dvc checkout` or `dvc repro`", str(error.value))


@pytest.mark.usefixtures("in_run")
def test_a_model_of_the_run_that_was_shown_no_images() -> None:
    with pytest.raises(ValueError, match=r"0\.csv lacks images of vgg shown to madry"):
        check_transfer(Path("data/transfer"), datasets=["digits"], seeds=[0], sources=["vgg"], methods=[*METHODS, "madry"])


def test_times_without_a_repeat_or_with_half_a_line(tmp_path: Path) -> None:
    path, head = tmp_path / "digits.csv", "dataset,method,epochs,images,network,batch_size,device,threads,repeat,seconds\n"
    hcp, at = (f"digits,{name},20,9,conv6,64,cpu,1,1,0.5\n" for name in ("hcp", "at"))
    for text in (head + hcp + at + hcp.replace(",1,0.5", ",2,0.5"), head + hcp + at.replace("0.5", ""), head + hcp):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"digits\.csv is damaged"):
            load_cost(tmp_path, datasets=["digits"], methods=["hcp", "at"])
    path.write_text(head.replace("repeat", "repea4") + hcp + at)
    with pytest.raises(ValueError, match=r"digits\.csv is damaged \(it lacks repeat\)"):
        load_cost(tmp_path, datasets=["digits"], methods=["hcp", "at"])
    path.write_text((head + hcp + at).replace("digits", "mnist"))
    with pytest.raises(ValueError, match=r"digits\.csv is damaged \(it is of dataset mnist\)"):
        load_cost(tmp_path, datasets=["digits"], methods=["hcp", "at"])
    path.write_text(head + hcp + at)
    assert len(load_cost(tmp_path, datasets=["digits"], methods=["hcp", "at"])) == 2


def test_a_method_may_be_called_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("target,images\nnone,1\nNA,2\n")
    assert read_lines(tmp_path / "a.csv")["target"].tolist() == ["none", "NA"]


def test_a_record_has_names(tmp_path: Path) -> None:
    for text in ("[1]", '{"a": 1', ""):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json is damaged"):
            read_record(tmp_path / "a.json")


def test_tables_are_those_that_the_stage_wrote(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.md").write_text("text\n")
    write_sums(tmp_path)
    assert read_table(tmp_path / "a.csv")["x"].tolist() == [1, 3]
    assert read_text(tmp_path / "b.md") == "text\n"
    for text in ("x,y\n1,2\n", "x,y\n1,2\n3,5\n", ""):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ValueError, match=rf"a\.csv is damaged or changed .*{SUMS}.*run `dvc repro tables`"):
            read_table(tmp_path / "a.csv")
    (tmp_path / SUMS).write_text("half")
    with pytest.raises(ValueError, match=r"b\.md is damaged or changed"):
        read_text(tmp_path / "b.md")
    (tmp_path / SUMS).unlink()
    with pytest.raises(ValueError, match=r"b\.md is damaged or changed .*No such file"):
        read_text(tmp_path / "b.md")
