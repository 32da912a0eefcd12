"""What `make mutants` changes: one place of a function, and nothing that no test could notice."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import mutants

SOURCE = '''"""A file with 1 number."""
LIMIT = 3

def f(x: int = 2, *, é: float = 1.0) -> int:
    """Not 4."""
    if x < 5 and not é:
        raise ValueError(f"{x + 1}")
    print(x + 6)
    return max(x.clamp(0) * 7, LIMIT)
'''


def test_each_change_is_of_one_place_that_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    file = tmp_path / "a.py"
    file.write_text(SOURCE, encoding="utf-8")
    found = list(mutants.mutants(file))
    assert [(mutant.old, mutant.new) for mutant in found] == [
        ("x < 5 and not é", "x < 5 or not é"),
        ("x < 5", "x <= 5"),
        ("5", "6"),
        ("not é", "é"),
        ("x.clamp(0) * 7", "(x.clamp(0) / 7)"),
        ("x.clamp(0)", "x"),
        ("0", "1"),
        ("7", "8"),
    ]
    for mutant in found:
        content = file.read_bytes()
        changed = content[: mutant.start] + mutant.new.encode() + content[mutant.end :]
        compile(changed, "a.py", "exec")
        assert content[mutant.start : mutant.end].decode() == mutant.old
        assert mutant.line in (6, 9)


def test_the_sample_is_the_same_for_a_seed_and_covers_the_rooms() -> None:
    assert mutants.drawn(50, 0, mutants.ROOMS) == mutants.drawn(50, 0, mutants.ROOMS)
    assert mutants.drawn(50, 0, mutants.ROOMS) != mutants.drawn(50, 1, mutants.ROOMS)
    assert {mutant.file.split("/")[1] for mutant in mutants.drawn(100, 0, mutants.ROOMS)} == set(mutants.ROOMS)


def test_what_was_tried_before_is_kept_where_it_is_in_the_sample(tmp_path: Path) -> None:
    first, second, other = mutants.drawn(3, 0, mutants.ROOMS)
    rows = [mutants.row_of(first, "losses", 2.0), mutants.row_of(other, "none", 3.0)]
    assert mutants.tried_before(tmp_path / "mutants.csv", [first, second]).empty
    pd.DataFrame(rows).to_csv(tmp_path / "mutants.csv", index=False)
    assert mutants.tried_before(tmp_path / "mutants.csv", [first, second]).to_dict("records") == rows[:1]
