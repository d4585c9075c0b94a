"""Time that ``potstill distill`` names: that of the steps, and that of the whole command where it is longer."""

import json
import time
from pathlib import Path

import pytest

from potstill.cli.commands import distill
from potstill.cli.main import main


def test_the_time_of_the_whole_command_is_named_beside_that_of_the_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: object) -> object:
        time.sleep(0.5)
        return load(*arguments)  # type: ignore[arg-type]

    load = distill.load_data
    monkeypatch.setattr(distill, "load_data", slow)
    monkeypatch.setattr(distill, "MIN_DIFFERENCE", 0.4)
    line = ["distill", "digits", "--method", "random", "--ipc", "1", "--quiet", "--out"]
    assert main([*line, str(tmp_path / "a.safetensors")]) == 0
    assert " s in all, with loading, the choice of bits and writing\n" in capsys.readouterr().out
    assert main([*line, str(tmp_path / "b.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_in_all"] >= 0.5


@pytest.mark.parametrize(
    ("steps", "said"), [(18.0, "; 50 s in all, with loading, the choice of bits and writing"), (49.0, "")]
)
def test_nothing_is_said_where_both_are_nearly_equal(steps: float, said: str) -> None:
    assert distill._time_in_all(50.0, steps) == said
