"""``potstill score`` and ``potstill distill --scores``, as a person types them."""

import json
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import potstill
from potstill.cli.main import main

QUICK = ["--network", "convnet-d1-w4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_scores_are_written_drawn_and_selected_by(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "digits", "--methods", "aum,cartography", *QUICK, "--out", "s.parquet", "--map", "map.svg"]
    assert main([*words, "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = pq.read_table("s.parquet")
    assert said["samples"] == rows.num_rows == 1438
    assert said["columns"] == ["aum", "variability", "confidence", "correctness"]
    assert sum(said["regions"].values()) == 1438
    assert said["methods"]["aum"]["config"]["record_epochs"] == 2
    assert Path("map.svg").read_text().startswith("<svg")
    assert main([*words, "--quiet"]) == 0
    following = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("Select by it: "))
    assert main([*following[1:], "--quiet"]) == 0
    small = potstill.load("chosen.safetensors")
    assert len(small) == 100
    assert small.metadata["config"]["network"] == "convnet-d1-w4"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--methods", "aum", "--out", "s.csv"], 2, "must end in .parquet"),
        (["--methods", "aum", "--out", "s.parquet", "--map", "m.svg"], 2, "add cartography to --methods"),
        (["--methods", "aum", "--out", "s.parquet", "--epochs", "0"], 2, "--epochs must be at least 1, but it is 0"),
        (["--methods", "aumm", "--out", "s.parquet"], 2, "did you mean aum"),
        (["--methods", "dm", "--out", "s.parquet"], 1, "method dm gives samples no numbers"),
        (["--methods", "aum", "--out", "no/s.parquet"], 1, "its folder no does not exist"),
    ],
)
def test_misuse_is_said_in_one_line(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "digits", *words, "--quiet"]) == status
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) == 1
