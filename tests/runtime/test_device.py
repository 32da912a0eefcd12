"""What is said where a precision is slow."""

import pytest

from pipeline.runtime import device


@pytest.mark.parametrize(("precision", "hardware", "said"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)])
def test_bf16_without_hardware_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str, hardware: bool, said: bool
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda chosen: hardware)
    assert device.set_up_device("cpu", 1, precision).type == "cpu"
    assert ("no instructions for bf16" in capsys.readouterr().err) == said
