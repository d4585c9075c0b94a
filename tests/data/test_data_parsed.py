"""Numbers and dates that stand in a table as texts: read in one format, the same in every part, or refused."""

import random
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import load
from potstill.data.parsed import is_missing_marker, parse_column
from potstill.errors import PotstillError


def written(path, column, *, delimiter=";"):
    """A CSV of that column beside another, and two classes."""
    rows = (f"{cell}{delimiter}{i}{delimiter}{'uv'[i % 2]}" for i, cell in enumerate(column))
    path.write_text(delimiter.join(["a", "b", "label"]) + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def values(splits):
    return splits.train.raw(torch.arange(len(splits.train)))[:, 0].tolist()


def said(splits):
    return next(note for note in splits.notes if "holds texts" in note)


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "numbers", "how"),
    [
        (["1,5", "-2", "0,123", "10,25"], [1.5, -2, 0.123, 10.25], "a decimal comma: '1,5' is 1.5"),
        (["1,234,567.8", "12", "1,000"], [1234567.8, 12, 1000], "thousands after a comma: '1,234,567.8' is 1234567.8"),
        (["12,34,567", "12", "1,000"], [1234567, 12, 1000], "thousands after a comma"),
        (["1.234,5", "12", "1.000"], [1234.5, 12, 1000], "thousands after a point and a decimal comma"),
        (["1 234", "12", "1 000 000"], [1234, 12, 1000000], "thousands after a blank: '1 234' is 1234"),
        (["1\u202f234,5", "12", "1\u00a0000"], [1234.5, 12, 1000], "thousands after a blank and a decimal comma"),
        (["1'234.5", "12", "1’000"], [1234.5, 12, 1000], "thousands after an apostrophe"),
        (["12 %", "3.25%", "-4 %"], [12, 3.25, -4], "numbers in %: '12 %' is 12"),
        (["12,5 %", "3 %"], [12.5, 3], "a decimal comma in %"),
        (["$ 12.50", "$3", "-$4"], [12.5, 3, -4], r"numbers in \$: '\$ 12.50' is 12.5"),
        (["12 €", "3,5 €"], [12, 3.5], "a decimal comma in €"),
        (["EUR 12", "3 EUR"], [12, 3], "numbers in EUR"),
        (["−1.5", "+2", "2.5e-3"], [-1.5, 2, 0.0025], "read as numbers: '−1.5' is -1.5"),
    ],
)  # fmt: skip
def test_a_column_in_one_format_is_read_and_it_is_said(tmp_path, column, numbers, how):
    splits = load(written(tmp_path / "t.csv", column * 4), test_fraction=0)
    assert splits.train.columns[0].kind == "number"
    assert values(splits) == pytest.approx(numbers * 4)
    note = said(splits)
    assert note.startswith("t.csv: column 'a' holds texts, read as numbers")
    assert re.search(how, note)


@pytest.mark.parametrize(
    ("column", "days", "how"),
    [
        (["2024-01-05", "2024-02-01"], [0, 27], "year, month, day"),
        (["05.01.2024", "01.02.2024"], [0, 27], "day, month, year"),
        (["05/01/2024", "13/01/2024"], [0, 8], "day, month, year"),
        (["01/05/2024", "01/13/2024 06:00 PM"], [0, 8.75], "month, day, year"),
        (["2024-01-05T00:00:00+01:00", "2024-01-05T12:00:00Z"], [0, 13 / 24], "year, month, day"),
        (["2024-01", "2024-03"], [0, 60], "year, month, day"),
    ],
)  # fmt: skip
def test_dates_in_texts_are_dates(column, days, how):
    frame = pd.DataFrame({"a": column * 6, "label": [i // 2 % 2 for i in range(6 * len(column))]})
    splits = load(frame, test_fraction=0)
    assert splits.train.columns[0].kind == "date"
    assert values(splits) == pytest.approx(days * 6)
    assert f"read as dates ({how})" in said(splits)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1,234", "5,678", "12"], r"row 1, column 'a' is '1,234': thousands, or a decimal sign\? No cell of the "
         "column tells; write 1.234 or 1234, and so on"),
        (["€ 1.234", "€ 12"], "row 1, column 'a' is '€ 1.234': thousands, or a decimal"),
        (["01/02/2024", "03/04/2024"], r"row 1, column 'a' is '01/02/2024': day, month, year, or month, day, year\? .*"
         "write 2024-02-01 or 2024-01-02"),
        (["01/02/24", "03/04/24"], "a date whose year has two digits"),
        (["1,5", "2,5", "3.5", "4,5"], r"row 3, column 'a' is '3.5', which reads as numbers, and most of its cells are "
         "numbers with a decimal comma"),
        (["12 %", "13 %", "14", "15 %"], "row 3, column 'a' is '14', which reads as numbers, and most of its cells are "
         "numbers in %"),
        (["$ 5", "$ 6", "7 €", "$ 8"], "row 3, column 'a' is '7 €', which reads as numbers in €"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(tmp_path, column, message):
    refuse(written(tmp_path / "t.csv", column * 3), message)


@pytest.mark.parametrize("mark", ["?", "n.a.", "-", "N/A", "unknown", "#DIV/0!"])
def test_a_mark_among_numbers_is_a_missing_value(tmp_path, mark):
    column = [str(i + 0.5) for i in range(30)]
    column[11] = mark
    path = written(tmp_path / "t.csv", column)
    if mark != "N/A":  # which the reader of CSV knows
        refuse(path, rf"row 12, column 'a' is '{'[?]' if mark == '?' else mark}', and its other cells are numbers or "
               "dates; correct it, or .*`missing=\"impute\"` or `missing=\"drop\"`")  # fmt: skip
    filled = load(path, missing="impute", test_fraction=0)
    assert filled.train.columns[0].kind == "number"
    assert values(filled)[11] == 15.5  # the median of the others
    assert len(load(path, missing="drop", test_fraction=0).train) == 29
    if mark != "N/A":
        assert f"1 cell that says '{mark}' counts as missing" in said(filled)


def test_one_mark_in_each_of_nine_columns_leaves_nine_inputs(tmp_path):
    rng = random.Random(0)
    rows = [[str(rng.randint(1, 10)) for _ in range(9)] for _ in range(100)]
    for column in range(9):
        rows[7 * column][column] = "?"
    lines = [
        ",".join([*(f"c{i}" for i in range(9)), "label"]),
        *(",".join([*r, "uv"[i % 2]]) for i, r in enumerate(rows)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert load(tmp_path / "t.csv", missing="impute").train.input.shape == (9,)


def test_a_cell_that_is_no_number_among_many_is_refused_by_name(tmp_path):
    column = [str(i) for i in range(40)]
    column[20] = "about 3"
    path = written(tmp_path / "t.csv", column)
    refuse(
        path,
        r"t\.csv: row 21, column 'a' is 'about 3', which is no number, and most of its cells are numbers; correct it, "
        'or leave it empty and say `missing="impute"` or `missing="drop"`; if they are names, put a letter before each',
    )
    refuse(path, "'about 3', which is no number.* leave it empty;", missing="impute")


@pytest.mark.parametrize(
    "column",
    [
        ["01234", "90210", "10115", "00501"],  # postcodes
        ["1", "2", "3"],  # codes: a file of types calls them texts
        ["2", "4", "more"],  # of the cars of UCI
        ["2", "3", "4", "5more"],
        ["10-19", "20-29", "30-39"],
        ["A1", "B2", "3"],
        ["192.168.1.1", "10.0.0.7"],
        ["12:30", "13:45"],
        ["NA", "DE", "FR"],
        ["?", "n.a."],
        ["1e5", "2f7", "c3d"],
    ],
)
def test_categories_stay_what_they_are(column):
    frame = pd.DataFrame({"a": column * 6, "label": [i // 3 % 2 for i in range(6 * len(column))]})
    splits = load(frame, test_fraction=0)
    assert splits.train.columns[0].kind == "category"
    assert splits.train.columns[0].values == tuple(sorted(set(column)))


def test_marked_categories_are_never_parsed():
    frame = pd.DataFrame({"a": pd.Categorical(["1,5", "2,5"] * 6), "label": [0, 0, 1, 1] * 3})
    assert load(frame, test_fraction=0).train.columns[0].kind == "category"


def test_both_parts_are_read_in_one_format():
    train = pd.DataFrame({"a": ["1,5", "2,25", "3"] * 4, "label": ["u", "v"] * 6})
    test = pd.DataFrame({"a": ["1,234", "4"], "label": ["u", "v"]})  # by itself it could not be told
    s = load((train, test))
    assert s.test.raw(torch.arange(2))[:, 0].tolist() == pytest.approx([1.234, 4])
    strange = pd.DataFrame({"a": ["1.5", "4"], "label": ["u", "v"]})
    refuse((train, strange), r"frame \(test part\): row 1, column 'a' is '1.5', which reads as numbers, and most")
    typed = pd.DataFrame({"a": [1.5, 4.0], "label": ["u", "v"]})
    assert load((train, typed)).test.raw(torch.arange(2))[:, 0].tolist() == [1.5, 4]
    plain = train.assign(a=np.arange(12.0))
    marked = pd.DataFrame({"a": ["2", "?"], "label": ["u", "v"]})
    refuse((plain, marked), r"frame \(test part\): row 2, column 'a' is '\?'")
    assert load((plain, marked), missing="impute").test.raw(torch.arange(2))[:, 0].tolist() == [2, 5.5]


def test_many_texts_are_read_in_no_more_time_than_they_have(tmp_path):
    column = [f"{i},{i % 7}" for i in range(20_000)]
    splits = load(written(tmp_path / "t.csv", column), test_fraction=0)
    assert values(splits)[12345] == pytest.approx(12345 + 12345 % 7 / 10)


def test_a_value_beyond_32_bits_is_refused_in_texts_too(tmp_path):
    refuse(
        written(tmp_path / "t.csv", ["1,5", "2,5", "1e39"] * 4), r"row 3, column 'a' is 1e\+39; floats of 32 bits end"
    )


def test_words_are_no_numbers():
    words = pa.chunked_array([pa.array(["red", None, "", "12"])])
    assert parse_column([("t", words)], "c", fill=True) is None


def test_targets_are_read_in_one_format_too(tmp_path):
    rows = [f"{i};$ 1,{i:03d}.50;x" for i in range(30)]
    path = tmp_path / "t.csv"
    path.write_text("size;price;kind\n" + "\n".join(rows))
    splits = load(path, label="price", task="regression", test_fraction=0)
    assert splits.train.targets[:, 0].tolist() == pytest.approx([1000.5 + i for i in range(30)])
    assert any(
        "column 'price' holds texts, read as numbers with thousands after a comma in $" in n for n in splits.notes
    )
    path.write_text(path.read_text().replace("$ 1,004.50", "n.a."))
    refuse(path, "row 5, column 'price' is 'n.a.'", label="price", task="regression")
    left = load(path, label="price", task="regression", test_fraction=0, missing="impute")
    assert len(left.train) == 29
    assert any("1 rows without a target were left out" in n for n in left.notes)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(
    st.integers(-(10**6), 10**6).map(str), st.floats(-1e6, 1e6).map(lambda v: f"{v:,.2f}"),
    st.text("0123456789,. %$/-:'?na", max_size=10), st.dates().map(lambda d: d.strftime("%d/%m/%Y")),
), min_size=1, max_size=30), st.booleans())  # fmt: skip
def test_any_texts_are_numbers_words_or_refused_in_one_line(column, fill):
    try:
        found = parse_column([("t", pa.chunked_array([pa.array(column, pa.large_string())]))], "c", fill=fill)
    except PotstillError as caught:
        refused = str(caught)
        assert refused.startswith("t: row ")
        assert "\n" not in refused
    else:
        if found is not None:
            missing = [is_missing_marker(text) for text in column]
            assert np.isnan(found.parts[0]).tolist() == missing


@given(st.lists(st.floats(-1e9, 1e9).map(lambda v: round(v, 2)), min_size=1, max_size=20))
def test_numbers_written_with_thousands_are_read_back_or_doubted(numbers):
    column = [f"{v:,.2f}" for v in numbers]
    found = parse_column([("t", pa.chunked_array([pa.array(column, pa.large_string())]))], "c", fill=False)
    assert found is not None
    assert found.parts[0].tolist() == numbers
