"""Files of models and kept work: whole to the last bit, finite, of the right item, and read without executing code."""

import zipfile
from pathlib import Path

import pytest
import torch
from damage import damaged
from torch import nn

from pipeline.runtime.checkpoint import LABEL, check_params, kept_state, load_state, load_weights, save_state

STATE = {"network": {"weight": torch.rand(7, 300), "steps": torch.tensor(3)}, "params": {"seed": 0, "layers": ["a", "b"]}}


def test_a_file_with_any_bit_changed_or_cut_off_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_state(path, STATE)
    whole = path.read_bytes()
    ends = [(f"bit {bit} from the end", whole[:-1] + bytes([whole[-1] ^ 1 << bit])) for bit in range(8)]
    for what, content in [*damaged(whole), *ends]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pt is damaged or not a checkpoint .*delete it and run `dvc checkout`") as error:
            load_state(path)
        assert "\n" not in str(error.value), what
    path.write_bytes(whole)
    assert torch.equal(load_state(path)["network"]["weight"], STATE["network"]["weight"])


def test_other_programs_read_it_as_they_read_any_pt_file(tmp_path: Path) -> None:
    save_state(tmp_path / "a.pt", STATE)
    plain = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(plain["network"]["weight"], STATE["network"]["weight"])
    assert plain["params"] == STATE["params"]
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(LABEL)


def test_no_message_tells_how_to_execute_code_from_a_file(tmp_path: Path) -> None:
    class Thing:
        pass

    save_state(tmp_path / "a.pt", {"network": {"weight": torch.zeros(1)}, "thing": zipfile.Path})
    torch.save(STATE, tmp_path / "b.pt")  # no checksum
    for name, reason in (("a.pt", "more than tensors and plain values"), ("b.pt", "does not end in a checksum")):
        with pytest.raises(ValueError, match=reason) as error:
            load_state(tmp_path / name)
        assert "weights_only" not in str(error.value)
        assert "\n" not in str(error.value)
        assert error.value.__cause__ is None


def test_kept_work_that_is_damaged_is_no_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pt"
    assert kept_state(path) is None
    assert not capsys.readouterr().err
    save_state(path, {"x": 1})
    assert kept_state(path) == {"x": 1}
    path.write_bytes(path.read_bytes()[:-1])
    assert kept_state(path) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path} is damaged")
    assert not path.exists()


def test_weights_are_finite_and_of_the_right_item(tmp_path: Path) -> None:
    network, path = nn.Linear(2, 2), tmp_path / "0.pt"
    params = {"dataset": "digits", "method": "softmax", "seed": 0}
    save_state(path, {"network": network.state_dict(), "params": params})
    load_weights(nn.Linear(2, 2), path, "cpu", **params)
    with pytest.raises(ValueError, match=r"0\.pt is a model of .*seed 0, not of .*seed 1; delete it"):
        load_weights(nn.Linear(2, 2), path, "cpu", **{**params, "seed": 1})
    with pytest.raises(ValueError, match="a model of method None, not of method hcp"):
        check_params(path, {}, method="hcp")
    with pytest.raises(ValueError, match="does not match the network in params"):
        load_weights(nn.Linear(2, 3), path, "cpu", **params)
    with torch.no_grad():
        network.bias[1] = torch.nan
    save_state(path, {"network": network.state_dict(), "params": params})
    with pytest.raises(ValueError, match=r"0\.pt holds numbers that are not finite, in bias; delete it"):
        load_weights(nn.Linear(2, 2), path, "cpu", **params)


def test_a_device_without_memory_damages_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "kept.pt", {"x": 1})

    def load(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(torch.OutOfMemoryError):
        kept_state(tmp_path / "kept.pt")
    assert (tmp_path / "kept.pt").exists()
