"""``compare``: what lies in its folder is adopted only where it is what this comparison would make."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.api.compare import compare
from potstill.cli.command import Misuse
from potstill.cli.parsing import parse
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.execution import Processes
from potstill.testing.toy import windows_source

WORDS = ["digits", "--methods", "dm", "--ipc", "1", "--out", "board"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "board"


def small(split: int = 0) -> Splits:
    """Two classes of 4×4 pictures, split by a seed."""
    x = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1)).numpy()
    return potstill.load_data((x, [0, 1] * 30), split_seed=split)  # type: ignore[no-any-return]


def board(folder: Path, data: Splits | None = None, methods: tuple[str, ...] = ("random",), **more: Any) -> Any:
    given = {"network": "mlp", "seeds": 2, "steps": 4, "lr": 0.01, **more}
    return compare(small() if data is None else data, methods, (1,), out=folder, **given)


def forget_scorecards(folder: Path) -> None:
    for file in folder.glob("*.json"):
        file.unlink()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"seed": 0}, {"seed": 1}, "seed was 0 and now is 1"),
        ({}, {"data": small(3)}, "was"),
        ({}, {"network": "linear"}, "now is 'linear'"),
        ({"time_limit": 60.0}, {"time_limit": 90.0}, "time_limit was 60.0 and now is 90.0"),
    ],
    ids=["seed", "split", "network", "time"],
)
@pytest.mark.parametrize("scorecards", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_set_of_other_settings_is_not_adopted(
    folder: Path, first: Any, second: Any, said: str, scorecards: bool
) -> None:
    board(folder, **first)
    made = (folder / "random-ipc1.safetensors").read_bytes()
    if not scorecards:
        forget_scorecards(folder)
    with pytest.raises(PotstillError) as caught:
        board(folder, **second)
    message = str(caught.value)
    assert str(folder / "random-ipc1") in message
    assert said in message
    assert "\n" not in message
    assert (folder / "random-ipc1.safetensors").read_bytes() == made


def test_a_set_of_the_same_settings_is_adopted(folder: Path) -> None:
    board(folder)
    made = (folder / "random-ipc1.safetensors").stat().st_mtime_ns
    forget_scorecards(folder)
    board(folder)
    assert (folder / "random-ipc1.safetensors").stat().st_mtime_ns == made


def test_a_searched_set_of_real_samples_is_adopted_and_its_seed_and_options_are_compared(folder: Path) -> None:
    asked: dict[str, Any] = {
        "methods": ("random", "real"),
        "codecs": ["uint4"],
        "options": {"real": {"labels": "hard"}},
    }
    found = board(folder, **asked)
    (file,) = (folder / row["file"] for row in found["rows"] if row["method"] == "real")
    assert potstill.load(file).metadata["config"]["selection"] != "auto"  # the search chose it
    made = file.stat().st_mtime_ns
    assert board(folder, **asked)["rows"] == found["rows"]
    assert file.stat().st_mtime_ns == made
    forget_scorecards(folder)
    with pytest.raises(PotstillError, match=r"config\.teacher_steps was 200 and now is 7"):
        board(folder, **{**asked, "options": {"real": {"teacher_steps": 7}}})
    (folder / "random-ipc1-uint4.safetensors").unlink()
    with pytest.raises(PotstillError, match=r"real-ipc1.*seed was 0 and now is 1"):
        board(folder, **asked, seed=1)


def test_one_student_has_no_interval_and_is_shown_without(folder: Path) -> None:
    from potstill.cli.commands.compare import leaderboard_blocks
    from potstill.cli.text import plain_text

    rows = board(folder, methods=("herding",), seeds=1)
    shown = plain_text(leaderboard_blocks(rows)).splitlines()
    assert shown[-1].startswith("Fair: random stands here for as many real samples")
    assert "None" not in "".join(shown)


def test_a_mark_below_rows_without_one_is_explained(folder: Path) -> None:
    from potstill.cli.commands.compare import BELOW, leaderboard_blocks
    from potstill.cli.text import plain_text

    made = board(folder, seeds=1)
    (first,) = made["rows"]
    told = {**first, "id": "told", "rank": 2, "best": False, "not_told_apart": False}
    not_told = {**first, "id": "not", "rank": 3, "best": False, "not_told_apart": True}
    assert BELOW in plain_text(leaderboard_blocks({**made, "rows": [first, told, not_told]}))
    assert BELOW not in plain_text(leaderboard_blocks({**made, "rows": [first, not_told, told]}))


def test_a_full_disk_is_one_line_and_leaves_nothing_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(folder)
    forget_scorecards(folder)
    sets = sorted(p.name for p in folder.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_text", lambda *a, **k: full(0))
    with pytest.raises(PotstillError, match="No space left on device"):
        board(folder)
    assert sorted(p.name for p in folder.iterdir()) == sets


def test_options_of_methods_and_of_the_protocol_reach_them_and_are_kept(folder: Path) -> None:
    more: dict[str, Any] = {"methods": ("k-means",), "options": {"k-means": {"iterations": 3}}, "seeds": 1}
    rows = {row["method"]: row for row in board(folder, **more)["rows"]}
    assert potstill.load(folder / "k-means-ipc1.safetensors").metadata["config"]["iterations"] == 3
    score = rows["k-means"]["scorecard"]
    assert score["settings"]["options"] == {"iterations": 3}
    assert score["settings"]["overrides"] == {"steps": 4, "lr": 0.01}
    assert rows["random"]["scorecard"]["settings"]["options"] is None
    plain = potstill.evaluate(
        folder / "k-means-ipc1.safetensors", small(), networks="mlp", seeds=1, steps=5, baselines=False, full=False
    )
    assert score["fingerprint"] != plain.content["fingerprint"]
    forget_scorecards(folder)
    with pytest.raises(PotstillError, match=r"k-means-ipc1\.safetensors: .*config\.iterations was 3 and now is 4"):
        board(folder, **{**more, "options": {"k-means": {"iterations": 4}}})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"options": {"herdin": {}}}, "herdin"),
        ({"options": {"random": {"sed": 1}}}, "unknown option 'sed'"),
        ({"epochz": 3}, "did you mean epochs"),
    ],
)
def test_options_that_do_not_exist_are_refused_before_any_work(folder: Path, wrong: Any, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        board(folder, **wrong)
    assert not folder.exists()


UNTYPED = """
import sys
from pathlib import Path
import potstill

data = ([[0.0, 1.0], [1.0, 0.0]] * 4, [0, 1] * 4)
for call in (
    lambda: potstill.compare(data, ["random"], {"a": 1}, out=Path(sys.argv[1])),
    lambda: potstill.compare(data, ["random"], [0], out=Path(sys.argv[1])),
    lambda: potstill.compare(data, ["random"], "1", out=Path(sys.argv[1])),
    lambda: potstill.distill(data, "random", ipc={"a": 1}),
    lambda: potstill.distill(data, "random", ipc=1.5),
    lambda: potstill.distill(data, "random", ipc=1, steps="3"),
    lambda: potstill.distill(data, "random", ipc=1, steps=-3, progress=None),
):
    try:
        call()
    except potstill.PotstillError as error:
        print(error)
"""


def test_sizes_and_steps_of_other_kinds_are_refused(folder: Path) -> None:
    """In a process of its own: while tests run, types are checked before any of our code is."""
    done = subprocess.run([sys.executable, "-c", UNTYPED, str(folder)], capture_output=True, text=True)
    said = [line.partition(" must be ")[0] for line in done.stdout.splitlines()]
    assert (said, done.stderr) == (["ipc"] * 5 + ["steps"] * 2, "")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("dm.iteration=5", "did you mean iterations"),
        ("dm.iterations=many", "iterations cannot be 'many'"),
        ("dn.iterations=5", "did you mean dm"),
        ("iterations=5", "write METHOD.FIELD=VALUE"),
    ],
)
def test_what_cannot_be_set_is_misuse(entry: str, said: str) -> None:
    with pytest.raises(Misuse, match=said):
        parse("compare", [*WORDS, "--set", entry])


def test_options_on_the_command_line_are_those_of_distill_and_evaluate() -> None:
    parsed = parse("compare", [*WORDS, "--set", "dm.iterations=7", "--set", "dm.batch-real=16", "--epochs", "50"])
    assert parsed.settings == {"dm": {"iterations": 7, "batch_real": 16}}
    assert parsed.options == {"epochs": 50}


@pytest.mark.parametrize("content", ["[1]", "{}", "[" * 50_000])
def test_what_is_no_scorecard_is_said(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "random-ipc1.scorecard.json").write_text(content)
    with pytest.raises(PotstillError, match=r"random-ipc1\.scorecard\.json: not a scorecard"):
        board(folder)


def test_cells_that_other_processes_make_are_those_that_are_made_here(folder: Path, tmp_path: Path) -> None:
    here, there = board(folder, methods=("herding",)), tmp_path / "there"
    elsewhere = board(there, methods=("herding", "sre2l"), executor=Processes(2))
    assert "error" in elsewhere["rows"][-1], "a cell that fails, fails alone"
    for one, other in zip(here["rows"], elsewhere["rows"], strict=False):
        assert one["scorecard"]["accuracy"] == other["scorecard"]["accuracy"]
        assert one.get("difference") == other.get("difference")
    assert {file.name for file in there.iterdir()} >= {file.name for file in folder.iterdir()}
    for file in folder.glob("*.safetensors"):
        assert torch.equal(potstill.load(file).inputs, potstill.load(there / file.name).inputs)


def test_a_comparison_that_was_cut_makes_only_the_cells_that_are_missing(folder: Path) -> None:
    board(folder, methods=("herding",), executor="serial")
    kept = folder / "random-ipc1.scorecard.json"
    before = kept.stat().st_mtime_ns
    (folder / "herding-ipc1.scorecard.json").unlink()
    board(folder, methods=("herding",), executor="serial")
    assert kept.stat().st_mtime_ns == before
    assert (folder / "herding-ipc1.scorecard.json").exists()


def test_where_there_are_no_classes_sizes_are_items_in_all(tmp_path: Path) -> None:
    source = windows_source(40)
    given: dict[str, Any] = {
        "out": tmp_path, "network": "mlp-w8", "seeds": 2, "steps": 8, "preset": "quick"
    }  # fmt: skip
    board = compare(Splits(train=source, test=source), ["k-center"], items=[4, 8], **given)
    assert [row["items"] for row in board["rows"]] == [4, 4, 8, 8]
    means = [row["scorecard"]["score"]["mean"] for row in board["rows"] if row["ipc"] == 8]
    assert means == sorted(means)  # less is better, so the least comes first
    assert (tmp_path / "random-items8.scorecard.json").exists()
    again = compare(Splits(train=source, test=source), ["k-center"], items=[4, 8], **given)
    assert again == board
    with pytest.raises(PotstillError, match="sizes once"):
        compare(Splits(train=source, test=source), ["k-center"], 1, items=1, out=tmp_path)
