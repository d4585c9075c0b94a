"""Time in tables that are forecast: gaps, times that are there twice, several series, columns that count."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.data import SeriesSource, holdout
from potstill.data import load as load_data
from potstill.errors import PotstillError
from potstill.testing import check_source

TASK = "forecast:window=4,horizon=2"
WHOLE = 6
RNG = np.random.default_rng(5)


def hours(n, start="2024-01-01", step="h"):
    return pd.Series(pd.date_range(start, periods=n, freq=step))


def flow(n=60):
    return pd.DataFrame({"time": hours(n), "flow": np.cumsum(RNG.normal(size=n)).round(3)})


def stations(n=40, names=("Aar", "Bern", "Chur")):
    """Rows of several stations, one after another; each has its own level."""
    parts = [flow(n).assign(station=name, flow=lambda f, i=i: f["flow"] + 100 * i) for i, name in enumerate(names)]
    return pd.concat(parts, ignore_index=True)


def load(data, **options):
    splits = load_data(data, **{"task": TASK, **options})
    assert isinstance(splits.train, SeriesSource)
    return splits


def said(splits, words):
    assert [note for note in splits.notes if re.search(words, note)], splits.notes


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def rows_of(source):
    """The values of each window and what follows it, (n, v, whole)."""
    return source._cut(torch.arange(len(source)))


# --- gaps --------------------------------------------------------------------------------------------------------


def test_no_window_runs_across_a_gap():
    frame = flow().assign(flow=np.arange(60.0) ** 2)
    splits = load(frame.drop(index=[20, 21, 22, 37]))
    said(splits, r"column 'time': one row every hour, and 2 gaps, the first after 2024-01-01 19:00:00; no window runs")
    assert len(splits.train) + len(splits.test) < 60 - 2 * WHOLE
    for part in (splits.train, splits.test):
        roots = rows_of(part)[:, 0].double().sqrt().round()
        assert (roots.diff(dim=1) == 1).all()
    check_source(splits.train)


def test_gaps_that_leave_no_window_are_refused():
    frame = flow().drop(index=range(12, 60, 12))
    refuse(
        frame, "take 14 points in time, but no more than 12 follow each other without a gap; ask for less with `task=",
        task="forecast:window=12,horizon=2",
    )  # fmt: skip


def test_months_and_working_days_are_no_gaps():
    months = pd.DataFrame({"month": pd.date_range("2020-01-01", periods=40, freq="MS"), "x": RNG.normal(size=40)})
    assert not [n for n in load(months).notes if "gap" in n]
    days = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60, freq="B"), "x": RNG.normal(size=60)})
    splits = load(days)
    said(
        splits, "'day': rows follow each other by day to 3 days, without a regular step; they are taken as equally far"
    )
    assert len(splits.train) == len(load(days[["x"]]).train)


def test_missing_values_are_not_filled_across_a_gap():
    frame = flow().drop(index=range(20, 26)).reset_index(drop=True)
    frame.loc[[20, 21, 30], "flow"] = np.nan
    refuse(frame, r"3 values are missing; `missing=.impute.` fills .*\(the first: row 21, column 'flow'\)")
    splits = load(frame, missing="impute")
    said(splits, "1 missing values were filled")
    said(splits, "2 rows before the first value of a column were left out")
    assert len(splits.train.series) == 52


# --- values ------------------------------------------------------------------------------------------------------


def test_a_column_that_begins_late(tmp_path):
    frame = flow().assign(late=[np.nan] * 50 + [1.0, 2.0] * 5)
    splits = load(frame, missing="impute", test_fraction=0.4, task="forecast:window=2,horizon=1")
    said(splits, r"50 rows before the first value of a column were left out \('late' begins last\)")
    assert len(splits.train.series) == 10
    refuse(
        frame.assign(late=[np.nan] * 57 + [1.0, 2.0, 3.0]),
        "take 6 points in time, but no more than 3",
        missing="impute",
    )
    refuse(frame.assign(late=np.nan), "column 'late' holds no value; remove the column", missing="impute")
    refuse(frame.assign(late=np.nan), "column 'late' holds no value; remove the column")


def test_values_beyond_32_bits_in_a_series():
    near = flow()
    far = near.assign(flow=near["flow"] + 1e9)
    one, two = load(near).train, load(far).train
    assert torch.allclose(two.series - two.series[0], one.series - one.series[0], atol=1e-5)
    assert two.task.offset == (1e9,)
    assert one.task.offset == ()
    said(load(far), "'flow' is taken less 1,000,000,000: floats of 32 bits do not hold its digits")
    refuse(near.assign(flow=[*near["flow"][:-1], 1e39]), r"row 60, column 'flow' is 1e\+39; floats of 32 bits end")


def test_numbers_and_dates_in_texts_of_a_series():
    frame = flow().assign(
        time=lambda f: f["time"].dt.strftime("%d.%m.%Y %H:%M"),
        flow=lambda f: f["flow"].map(lambda v: f"{v}".replace(".", ",")),
    )
    splits = load(frame.drop(index=30))
    said(splits, "'flow' holds texts, read as numbers with a decimal comma")
    said(splits, r"column 'time': one row every hour, and 1 gap, the first after 2024-01-02 05:00:00")
    marked = flow().astype({"flow": str})
    marked.loc[9, "flow"] = "n.a."
    refuse(marked, "row 10, column 'flow' is 'n.a.'")
    assert load(marked, missing="impute").train.series[9] == load(marked, missing="impute").train.series[8]


# --- order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dates", "texts", "whole numbers", "years", "shuffled", "year and month"])
def test_falling_times_are_sorted_and_it_is_said(kind):
    n = 60
    frame = pd.DataFrame({"x": RNG.normal(size=n)})
    days = hours(n, step="D")
    times = {
        "dates": days, "shuffled": days, "texts": days.dt.strftime("%d.%m.%Y"),
        "whole numbers": pd.Series(range(1000, 1000 + 5 * n, 5)), "years": pd.Series(range(1900, 1900 + n)),
    }  # fmt: skip
    if kind == "year and month":
        frame = frame.assign(year=[2000 + i // 12 for i in range(n)], month=[1 + i % 12 for i in range(n)])
    else:
        frame = frame.assign(**{"year" if kind == "years" else "t": times[kind]})
    turned = frame.iloc[RNG.permutation(n)] if kind == "shuffled" else frame.iloc[::-1]
    splits = load(turned)
    said(splits, "rows were sorted by column.*, the earliest first")
    assert splits.train.content_hash == load(frame).train.content_hash == load(frame[["x"]]).train.content_hash
    assert splits.train.task.variables == ("x",)


# --- times that are there twice, and series ------------------------------------------------------------------------


def test_a_time_that_is_there_twice_is_refused_by_its_rows():
    frame = flow()
    frame.loc[12, "time"] = frame.loc[11, "time"]
    refuse(
        frame,
        r"rows 12 and 13 have one time, 2024-01-01 11:00:00 \(column 'time'; 1 such rows\); leave one of them out",
    )


@pytest.mark.parametrize("how", ["stacked", "interleaved"])
@pytest.mark.parametrize("names", [("Aar", "Bern", "Chur"), (7, 8, 12)])
def test_several_series_are_told_apart_by_a_column(how, names):
    frame = stations(names=names)
    if how == "interleaved":
        frame = frame.sort_values("time", kind="stable")
    refuse(frame, "have one time, .*leave one of them out, or say which column names the series that a row belongs to: "
           "`series=\"station\"`")  # fmt: skip
    splits = load(frame, series="station")
    said(splits, r"3 series by column 'station' \('\w+', '\w+', '\w+'\), each split by its own time")
    assert splits.train.task.variables == ("flow",)
    for part in (splits.train, splits.test):
        level = (rows_of(part)[:, 0] / 100).round()
        assert torch.equal(level.amin(1), level.amax(1)), "no window lies on two stations"
        assert len(level.amin(1).unique()) == 3, "every station is in both parts"
    assert splits.reading == {"task": TASK, "series": "station"}
    for group in range(3):
        train, test = (part.starts[part.groups == group] for part in (splits.train, splits.test))
        assert int(train.max()) + WHOLE <= int(test.min())
    check_source(splits.train)
    kept, held = holdout(splits.train, 0.3, 0)
    assert len(kept.groups.unique()) == len(held.groups.unique()) == 3


def test_series_without_a_time_are_noted():
    for frame in (stations(), stations().sort_values("time", kind="stable")):
        said(load(frame.drop(columns="time")), "if column 'station' names several series, say `series=\"station\"`")
    numbered = stations(names=(4, 5, 9)).drop(columns="time")
    said(load(numbered), "if column 'station' names several series, say `series=\"station\"`")


def test_series_of_other_lengths_and_what_is_refused():
    frame = pd.concat([flow(50).assign(s="long"), flow(4).assign(s="short"), flow(30).assign(s="middle")])
    splits = load(frame, series="s")
    said(splits, "1 series are too short, or too full of gaps, for a window in the test part")
    refuse(frame, "no column 'sation'|unknown column 'sation'", series="sation")
    refuse(frame.assign(s=[None, *frame["s"][1:]]), "row 1 has no series in column 's'", series="s")
    refuse(RNG.normal(size=(60, 2)), "an array has no column 's'", series="s")
    with pytest.raises(PotstillError, match='leave `series=` out, or say `task="forecast"`'):
        load_data(flow().assign(label=[0, 1] * 30), series="s", task="regression")
    refuse(frame.assign(time=[pd.NaT, *frame["time"][1:]]), "row 1 has no time in column 'time'", series="s")


# --- columns that count ------------------------------------------------------------------------------------------


def test_columns_that_count_are_left_out_and_it_is_said():
    n = 60
    frame = flow().assign(id=range(7, 7 + n), year=2024, hour=lambda f: f["time"].dt.hour, level=RNG.integers(0, 9, n))
    splits = load(frame)
    assert splits.train.task.variables == ("flow", "level")
    said(
        splits,
        r"not forecast: columns 'id', 'year', 'hour' \(numbers of rows, names of series, parts of a date; `label=`",
    )
    assert load(frame, label="hour").train.task.variables == ("hour",)
    counting = frame[["id", "flow"]]
    said(load(counting), "column 'id' is the time, and no variable")
    said(load(counting.drop(index=[20, 21])), "column 'id': one row every 1, and 1 gap, the first after 26")
    panel = stations().assign(height=lambda f: f["station"].map({"Aar": 400, "Bern": 540, "Chur": 590}))
    assert load(panel, series="station").train.task.variables == ("flow",)


def test_a_date_beside_its_hours():
    n = 72
    frame = pd.DataFrame({
        "date": hours(n).dt.normalize(), "hour": hours(n).dt.hour, "x": RNG.normal(size=n),
    }).iloc[::-1]  # fmt: skip
    splits = load(frame)
    said(splits, "rows were sorted by columns 'date', 'hour'")
    assert splits.train.task.variables == ("x",)


def test_a_table_of_nothing_but_counting_columns_is_forecast():
    assert load(pd.DataFrame({"x": range(60)})).train.task.variables == ("x",)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), min_size=40, max_size=90, unique=True),
    st.integers(1, 3), st.integers(1, 2), st.randoms(),
)  # fmt: skip
def test_any_rows_in_any_order_make_windows_of_following_times(rows, window, horizon, random):
    """Every window is of one series, and its times follow each other by the regular step."""
    random.shuffle(rows)
    frame = pd.DataFrame({
        "s": ["abc"[s] for s, _ in rows], "time": [pd.Timestamp("2024-01-01") + pd.Timedelta(days=t) for _, t in rows],
        "x": [1000.0 * s + t + 0.5 for s, t in rows], "y": [float(random.random()) for _ in rows],
    })  # fmt: skip
    try:
        splits = load_data(frame, task=f"forecast:window={window},horizon={horizon}", series="s")
    except PotstillError as caught:
        refused = str(caught)
        assert re.search("points in time", refused)
        return
    regular = not any("without a regular step" in note for note in splits.notes)
    for part in (splits.train, splits.test):
        x = part._cut(torch.arange(len(part)))[:, 0]
        assert torch.equal((x / 1000).floor().amin(1), (x / 1000).floor().amax(1))
        steps = x.diff(dim=1)
        assert (steps > 0).all()
        assert not regular or float(steps.max() / steps.min()) <= 3


def test_the_command_line_takes_the_column_and_the_card_keeps_it(tmp_path, capsys):
    stations().to_csv(tmp_path / "s.csv", index=False)
    words = ["--task", TASK, "--series", "station"]
    small = str(tmp_path / "s.safetensors")
    assert main(["distill", str(tmp_path / "s.csv"), *words, "--method", "random", "--items", "5", "--out", small]) == 0
    assert "--series" not in capsys.readouterr().out, "the line that measures it reads the column from the card"
    assert potstill.load(small).metadata["reading"]["series"] == "station"
    assert main(["evaluate", small, "--data", str(tmp_path / "s.csv"), "--network", "ridge", *words]) == 0
