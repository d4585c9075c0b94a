"""The demonstration: three commands in one folder, resumed when it is given again, and nobody's files are replaced."""

import json
from pathlib import Path

import pytest

from potstill.cli.commands import demo
from potstill.cli.commands.evaluate import Evaluate
from potstill.cli.main import main

FAST = ("--network", "linear-model", "--seeds", "1", "--no-baselines", "--no-full", "--no-robust-scores")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A demonstration of two seconds, of one real digit of each class."""
    (tmp_path / "short.yaml").write_text("method: random\nipc: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        demo._DATA, "digits", demo._Data("distilling digits", str(tmp_path / "short.yaml"), FAST, "It flatters.")
    )
    monkeypatch.setattr(demo, "find_spec", lambda name: None)  # as where mlxtend is not installed


def test_it_makes_a_set_a_scorecard_and_a_page_and_says_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    assert {p.name for p in Path("demo").iterdir()} >= {"digits.safetensors", "digits.scorecard.json", "report.html"}
    shown = capsys.readouterr()
    assert "about 3 minutes of one core" in shown.err.splitlines()[0]
    assert [line for line in shown.err.splitlines() if " of 3: potstill " in line]
    assert shown.out.startswith("demo/digits.safetensors: 10 pictures of 1×8×8 in 10 classes")
    assert "It flatters." in shown.out
    steps = shown.out.partition("Next:")[2]
    assert "demo/report.html" in steps
    assert "potstill evaluate demo/digits.safetensors --data digits --network linear-model" in steps
    assert "potstill inspect demo/digits.safetensors" in steps
    assert "potstill distill photos/ --ipc 10" in steps


def test_the_real_one_takes_a_quick_look_and_the_page_says_so() -> None:
    assert demo._Data("digits", "recipe.yaml").evaluation == ("--network", "convnet-w32", "--quick", "--seeds", "5")


def test_again_it_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Evaluate, "execute", stop)
        assert main(["demo", "--out", "here"]) == 130
    assert "interrupted; to go on: potstill demo --out here" in capsys.readouterr().err
    made = Path("here/digits.safetensors").stat().st_mtime_ns
    assert main(["demo", "--out", "here", "--json"]) == 0
    assert Path("here/digits.safetensors").stat().st_mtime_ns == made
    value = json.loads(capsys.readouterr().out)
    assert value["data"] == "digits"
    assert value["evaluate"]["accuracy"]["n"] == 1
    assert value["report"]["path"] == "here/report.html"


@pytest.mark.parametrize("name", ["digits.safetensors", "digits.scorecard.json", "report.html"])
def test_files_of_others_are_not_replaced(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").mkdir()
    (path := Path("demo") / name).write_text("mine")
    (beside := Path("demo") / "notes.txt").write_text("mine")
    assert main(["demo"]) == 1
    assert f"demo/{name}" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert {p.name for p in Path("demo").iterdir()} == {name, "notes.txt"}  # refused before anything was made
    assert main(["demo", "--force"]) == 0
    assert path.read_bytes() != b"mine"
    assert beside.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").write_text("a file")
    assert main(["demo"]) == 1
    assert "demo: " in capsys.readouterr().err
