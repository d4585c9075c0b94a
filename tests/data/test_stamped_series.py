"""Text formats of series with times: .ts files with time stamps, and .tsf files of series to forecast."""

from pathlib import Path

import numpy as np
import pytest
import torch

import potstill

HEAD = "@problemName stamped\n@timeStamps true\n@univariate false\n@classLabel true walk run\n@data\n"
ROWS = [
    "(0,1),(1,2),(2,3):(0,4),(1,5),(2,6):walk",
    "(2,3),(0,9),(1,?):(2,1),(0,2),(1,0):run",
    "(2024-05-31 12:00:00,7),(2024-05-31 13:00:00,8),(2024-05-31 17:00:00,9):"
    "(2024-05-31 12:00:00,1),(2024-05-31 13:00:00,1),(2024-05-31 17:00:00,2):walk",
    "(0.5,0),(1.5,0),(2.5,1):(0.5,2),(1.5,2),(2.5,2):run",
]


def write(folder: Path, rows: list[str]) -> Path:
    path = folder / "Stamped_TRAIN.ts"
    path.write_text(HEAD + "\n".join(rows) + "\n")
    return path


def test_values_stand_in_the_order_of_their_stamps(tmp_path: Path) -> None:
    splits = potstill.load_data(write(tmp_path, ROWS), missing="impute", test_fraction=0)
    by_hand = [
        [[1, 2, 3], [4, 5, 6]], [[9, 6, 3], [2, 0, 1]], [[7, 8, 9], [1, 1, 2]], [[0, 0, 1], [2, 2, 2]]
    ]  # fmt: skip
    assert splits.train.raw(torch.arange(4)).tolist() == by_hand
    assert splits.train.classes == ("walk", "run")
    assert any("the values of 1 series were sorted by their time stamps" in note for note in splits.notes)
    assert any("time stamps of 1 series have gaps" in note for note in splits.notes)


def test_series_in_order_and_without_gaps_need_no_note(tmp_path: Path) -> None:
    splits = potstill.load_data(write(tmp_path, [ROWS[0], ROWS[3]]), test_fraction=0)
    assert not any("stamp" in note for note in splits.notes)


@pytest.mark.parametrize(("row", "message"), [
    ("(0,1),(1,2)", r"line 6 has no class after a colon"),
    ("1,2:a", r"line 6: values with time stamps are pairs \(stamp,value\), but there is '1,2'"),
    ("(0,1),x:a", "are pairs"),
    ("(0,1),(1,x):a", "line 6: 'x' is not a number"),
    ("(noon,1),(1,2):a", "the time stamp 'noon' is neither a number nor a date such as 2024-05-31 12:00:00"),
    ("(1,1),(1,2):a", "the time stamp 1 stands twice; leave one of them out"),
    ("(0,1),(1,2):(0,1),(2,2):a", "must have the same time stamps; write them as a table in long form"),
])  # fmt: skip
def test_broken_stamps(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message) as caught:
        potstill.load_data(write(tmp_path, [row]))
    assert "\n" not in str(caught.value)


TSF = """# a comment
@relation visits
@attribute series_name string
@attribute start_timestamp date
@frequency monthly
@horizon 12
@missing {missing}
@equallength false
@data
T1:1979-01-01 00-00-00:{first}
T2:1979-02-01 00-00-00:{second}
"""


def write_tsf(folder: Path, first: np.ndarray, second: np.ndarray, missing: str = "false") -> Path:
    path = folder / "visits.tsf"
    texts = [",".join("?" if np.isnan(v) else f"{v:g}" for v in values) for values in (first, second)]
    path.write_text(TSF.format(first=texts[0], second=texts[1], missing=missing))
    return path


def test_a_tsf_file_is_windows_of_each_of_its_series(tmp_path: Path) -> None:
    first, second = np.arange(40.0), 100 + np.arange(30.0)
    splits = potstill.load_data(write_tsf(tmp_path, first, second), task="forecast:window=4,horizon=2")
    assert splits.train.task.variables == ("value",)
    train = splits.train.raw(torch.arange(len(splits.train)))[:, 0]
    assert ((train[:, 1:] - train[:, :-1]) == 1).all()  # none runs from one series into the other
    assert {v < 50 for v in train.flatten().tolist()} == {True, False}
    assert splits.test is not None
    assert float(splits.test.targets.max()) == 129
    assert any("2 series of one variable" in note for note in splits.notes)
    assert any("frequency monthly and horizon 12, which are not used" in note for note in splits.notes)


def test_missing_values_of_a_tsf_file(tmp_path: Path) -> None:
    first = np.arange(40.0)
    first[[3, 4]] = np.nan
    path = write_tsf(tmp_path, first, np.arange(30.0), "true")
    with pytest.raises(potstill.PotstillError, match="2 values are missing"):
        potstill.load_data(path, task="forecast:window=4,horizon=2")
    splits = potstill.load_data(path, task="forecast:window=4,horizon=2", missing="impute")
    assert splits.train.series[:6, 0].tolist() == [0, 1, 2, 2, 2, 5]


def test_a_tsf_file_is_distilled_and_measured_from_the_command_line(tmp_path: Path, capsys) -> None:
    from potstill.cli.main import main

    season = np.tile(np.sin(np.arange(12) / 2), 10) + 0.1 * np.random.default_rng(0).normal(size=120)
    path, out = write_tsf(tmp_path, season + 3, season[:100]), tmp_path / "small.safetensors"
    task = "forecast:window=12,horizon=4"
    made = ["distill", str(path), "--task", task, "--method", "random", "--items", "3", "--out", str(out)]
    assert main(made) == 0
    measured = ["evaluate", str(out), "--data", str(path), "--network", "ridge", "--seeds", "1"]
    assert main([*measured, "--json"]) == 0
    assert '"mase"' in capsys.readouterr().out


@pytest.mark.parametrize(("text", "message"), [
    ("T1:1,2,3\n", "there is no line @data"),
    ("@data\n", "there are no series after the line @data"),
    ("@attribute a string\n@data\n1,2,3\n", "line 3 has 1 parts between colons, but 1 attributes and the values are 2"),
    ("@data\n1,x\n", "line 2: 'x' is not a number"),
])  # fmt: skip
def test_broken_tsf_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "b.tsf"
    path.write_text(text)
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.load_data(path, task="forecast:window=2,horizon=1")


def test_options_and_tasks_that_do_not_fit(tmp_path: Path) -> None:
    path = write_tsf(tmp_path, np.arange(9.0), np.arange(9.0))
    with pytest.raises(potstill.PotstillError, match="a tsf file holds series to forecast; say `task="):
        potstill.load_data(path)
    with pytest.raises(potstill.PotstillError, match="a tsf file has no columns; leave `label=` out"):
        potstill.load_data(path, label="T1", task="forecast:window=2,horizon=1")
