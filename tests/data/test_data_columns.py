"""Tables as people have them: frames, missing values, categories, dates, labels nearly alike, broken quotes."""

import csv
import io

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import load
from potstill.data.table import read_csv
from potstill.errors import PotstillError


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


class Capsule:
    """A frame of a library that is not here: column names, and Arrow's own way to hand over what is in it."""

    def __init__(self, table):
        self._table = table
        self.columns = table.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def pets(n=40):
    rng = np.random.default_rng(3)
    return pd.DataFrame({
        "weight": rng.normal(4, 1, n).round(2),
        "legs": [3 if i == 7 else 4 for i in range(n)],
        "wild": [i % 3 == 0 for i in range(n)],
        "colour": pd.Categorical([["red", "black", "white"][i % 3] for i in range(n)]),
        "name of town": [["Bonn", "Trier"][i % 2] for i in range(n)],
        "seen": pd.to_datetime("2021-03-04") + pd.to_timedelta(np.arange(n), unit="D"),
        "label": ["cat" if i % 2 else "dog" for i in range(n)],
    })  # fmt: skip


def test_a_frame_of_all_kinds_of_columns():
    s = load(pets(), test_fraction=0)
    x = s.train.raw(torch.arange(40))
    kinds = {c.name: c.kind for c in s.train.columns}
    assert kinds == {
        "weight": "number", "legs": "number", "wild": "boolean", "colour": "category", "name of town": "category",
        "seen": "date",
    }  # fmt: skip
    assert s.train.input.columns == (
        "weight", "legs", "wild", "colour=black", "colour=red", "colour=white", "name of town=Bonn",
        "name of town=Trier", "seen",
    )  # fmt: skip
    assert x.shape == (40, 9)
    assert x[:3, 3:6].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert x[:, 8].tolist() == list(range(40))
    assert "frame: column 'seen' became days since 2021-03-04, the earliest in training" in s.notes


def test_the_same_table_in_every_form(tmp_path):
    frame = pets().drop(columns="seen")
    frame.to_csv(tmp_path / "t.csv", index=False)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    table = pa.Table.from_pandas(frame)
    views = pa.table({c: table[c].cast(pa.string_view()) if c == "name of town" else table[c] for c in frame.columns})
    beside = (frame.drop(columns="label"), frame["label"])
    hugging = datasets.Dataset.from_pandas(frame.astype({"colour": str}))
    hashes = {
        load(data, seed=1).train.content_hash
        for data in (frame, tmp_path / "t.csv", tmp_path / "t.parquet", table, Capsule(views), beside, hugging)
    }
    assert len(hashes) == 1


def test_categories_as_polars_hands_them_over():
    words = pa.array(["red", "", "blue", None]).cast(pa.string_view())
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 2, 1, 3, None, 0, 2, 0] * 2, pa.uint32()), words)
    labels = pa.DictionaryArray.from_arrays(pa.array([0, 2] * 8, pa.uint32()), words)
    s = load(Capsule(pa.table({"c": coded, "label": labels})), missing="impute", test_fraction=0)
    assert s.train.input.columns == ("c=blue", "c=red", "c=missing")
    assert s.train.classes == ("blue", "red")
    assert s.train.raw(torch.arange(6)).argmax(1).tolist() == [1, 0, 2, 2, 2, 1]
    views = pa.array(["u", "v"] * 8).cast(pa.string_view())
    some = load(Capsule(pa.table({"c": coded, "label": views})), missing="drop", test_fraction=0)
    assert some.train.raw(torch.arange(10)).argmax(1).tolist() == [1, 0, 1, 0, 1, 1, 0, 1, 0, 1]
    assert [some.train.classes[i] for i in some.train.labels.tolist()] == list("uvvuvuvvuv")


def test_a_frame_of_polars_with_missing_values_and_dates():
    n = 40
    frame = pl.DataFrame({
        "weight": [None if i == 5 else float(i % 7) for i in range(n)],
        "colour": pl.Series([None if i == 9 else ["red", "black"][i % 2] for i in range(n)], dtype=pl.Categorical),
        "size": pl.Series([["s", "m", "l"][i % 3] for i in range(n)], dtype=pl.Enum(["s", "m", "l"])),
        "seen": pl.date_range(pl.date(2021, 3, 4), pl.date(2021, 4, 12), eager=True),
        "label": [i % 2 == 0 for i in range(n)],
    })  # fmt: skip
    refuse(frame, "'weight'.*missing")
    s = load(frame, missing="impute", test_fraction=0)
    assert {c.name: c.kind for c in s.train.columns} == {
        "weight": "number", "colour": "category", "size": "category", "seen": "date"
    }  # fmt: skip
    x = s.train.raw(torch.arange(n))
    assert x[5, 0] == 3.0  # the median of the others
    names = s.train.input.columns
    assert x[9, [names.index(c) for c in names if c.startswith("colour=")]].tolist() == [0, 0, 1]
    assert x[:, names.index("seen")].tolist() == list(range(n))
    assert len(load(frame, missing="drop", test_fraction=0).train) == n - 2


def test_frames_in_two_parts():
    frame = pets()
    x, y = frame.drop(columns="label"), frame["label"]
    given_parts = load((x[:30], y[:30], x[30:], y[30:]))
    as_pair = load((frame[:30], frame[30:]))
    for s in (given_parts, as_pair):
        assert (len(s.train), len(s.test)) == (30, 10)
        assert s.test.raw(torch.arange(10))[:, -1].tolist() == list(range(30, 40))
    refuse((x[:30], y[:30], x[30:].drop(columns="legs"), y[30:]), "the test part lacks the column 'legs'")
    refuse((x, y[:3]), "frame: 40 inputs but 3 labels")
    strange = x[30:].assign(legs="four")
    refuse((x[:30], y[:30], strange, y[30:]), "column 'legs' holds a number in the training part and a category in")


def with_holes():
    frame = pets()
    frame.loc[[1, 5, 38], "weight"] = np.nan
    frame.loc[2, "colour"] = np.nan
    frame.loc[[3, 39], "seen"] = pd.NaT
    return frame


def test_missing_values_are_refused_by_default_and_the_message_says_what_to_do():
    refuse(
        with_holes(), "^frame: row 2, column 'weight' is empty; fill it or remove the row, or .*`missing=\"impute\"` or"
    )
    refuse(with_holes(), "unknown way with missing values 'guess'", missing="guess")
    refuse((np.zeros((4, 2)), [0, 1, 0, 1]), "missing values are dealt with in tables", missing="drop")
    refuse("digits", "missing values are dealt with in tables", missing="impute")


def test_missing_values_are_filled_by_what_the_training_part_alone_says():
    frame = with_holes()
    train, test = frame[:30], frame[30:]
    s = load((train, test), missing="impute")
    by_name = {c.name: c for c in s.train.columns}
    assert by_name["weight"].fill == pytest.approx(train["weight"].median())
    assert s.train.raw(torch.tensor([1, 5]))[:, 0].tolist() == pytest.approx([train["weight"].median()] * 2)
    assert s.test.raw(torch.tensor([8]))[0, 0] == pytest.approx(train["weight"].median())
    assert by_name["colour"].values == ("black", "red", "white", "missing")
    assert s.train.raw(torch.tensor([2]))[0, 3:7].tolist() == [0, 0, 0, 1]
    assert by_name["legs"].fill is None
    said = next(note for note in s.notes if "missing values filled" in note)
    assert said.startswith("frame: 6 missing values filled by what the training part says: 'weight' 3 by the median ")
    assert "; 'colour' 1 by a category of their own, missing; 'seen' 2 by the median 2021-03-" in said
    changed = test.assign(weight=test["weight"] * 1000)
    again = load((train, changed), missing="impute")
    assert again.train.content_hash == s.train.content_hash


def test_a_drawn_split_is_drawn_before_anything_is_filled():
    frame = with_holes()
    s = load(frame, missing="impute", seed=4)
    rows = s.train.places.numpy()
    assert {c.name: c.fill for c in s.train.columns}["weight"] == pytest.approx(frame["weight"].iloc[rows].median())
    plain = load(frame.drop(columns=["weight", "colour", "seen"]), seed=4)
    assert plain.train.places.tolist() == rows.tolist()


def test_rows_with_missing_values_are_left_out_and_counted():
    frame = with_holes()
    frame.loc[11, "label"] = None
    s = load(frame, missing="drop", test_fraction=0)
    assert s.train.places.tolist() == [i for i in range(40) if i not in (1, 2, 3, 5, 11, 38, 39)]
    assert "frame: 7 of 40 rows have missing values and were left out" in s.notes
    refuse(frame, "row 12, column 'label' has no label", missing="impute")
    parts = load((frame[:30], frame[30:]), missing="drop")
    assert "frame: 2 of 10 rows of the test part have missing values and were left out" in parts.notes
    refuse(frame.assign(weight=np.nan), 'every row has a missing value; try `missing="impute"`', missing="drop")
    refuse(frame.assign(weight=np.nan).dropna(subset="label"), "'weight' is empty in the training part; remove the",
           missing="impute")  # fmt: skip


def test_categories_are_those_of_the_training_part():
    frame = pets()
    train, test = frame[:30], frame[30:].astype({"colour": object}).copy()
    test.loc[[31, 33], "colour"] = "green"
    s = load((train, test))
    assert s.train.input.shape == (9,)
    assert s.test.raw(torch.tensor([1, 3]))[:, 3:6].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (
        "frame: column 'colour': 2 test rows hold categories that training lacks ('green'); they are 0 in all of its "
        "columns"
    ) in s.notes
    test.loc[35, "colour"] = None
    filled = load((train, test), missing="impute")
    assert filled.test.raw(torch.tensor([5]))[0, 3:6].tolist() == [1, 0, 0], "the most frequent, the first of equals"


def test_numbers_that_are_marked_as_categories():
    frame = pd.DataFrame({"room": pd.Categorical([10, 9, 10, 9] * 3), "a": range(12), "label": ["u", "v"] * 6})
    assert load(frame, test_fraction=0).train.input.columns == ("room=10", "room=9", "a")
    named = datasets.Features({"c": datasets.ClassLabel(names=["lo", "hi"]), "label": datasets.Value("string")})
    hugging = datasets.Dataset.from_dict({"c": [0, 1] * 4, "label": ["u", "u", "v", "v"] * 2}, features=named)
    assert load(hugging, label="label", test_fraction=0).train.input.columns == ("c=lo", "c=hi")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2, "u"], [3, 4, "v"]], columns=["a", "a", "label"]),
         r"frame: 2 columns are called 'a' \(columns 1, 2\); give each its own name"),
        (pd.DataFrame([[1, "u", "u"], [3, "v", "v"]], columns=["a", "label", "label"]), "2 columns are called 'label'"),
        (pd.DataFrame({"a": [1, "x"], "label": ["u", "v"]}), "frame: cannot be read column by column"),
        (pd.DataFrame({"a": [1, 2]}), "no column 'label'; the columns are: a"),
        (pd.DataFrame({"a": [[1], [2]], "label": ["u", "v"]}), "column 'a' holds list"),
        (pd.DataFrame({"a": [1, np.inf], "label": ["u", "v"]}), "row 2, column 'a' is inf"),
    ],
)  # fmt: skip
def test_frames_that_are_refused(frame, message):
    refuse(frame, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,label\n1,u\n2,\n3,v\n", "row 2, column 'label' has no label"),
        ("a,label\n1,u\n2,  \n3,v\n", "row 2, column 'label' has no label"),
        ('a,label\n1,"u\n2,v\n3,u\n', "line 2: a quote opens a value and is not closed on that line"),
        ('a,label\n1,u\n2,"v"\n3,"u\n4,v"\n', "line 4: a quote opens a value and is not closed"),
        ('a,label\n"1,u\n', "line 2: a quote opens"),
        ('a,label\n1,"u""\n2,v\n', "line 2: a quote opens"),
        ("a,label\n1,1\n2,01\n3,2\n", r"'label' holds the labels '1' \(row 1\) and '01' \(row 2\); whether"),
        ("a,label\n1,cat\n2,cat \n3,dog\n", r"the labels 'cat' \(row 1\) and 'cat ' \(row 2\)"),
        ("a,label\n1,x\n2,01\n3,1\n", r"the labels '01' \(row 2\) and '1' \(row 3\)"),
        ("a,a,label\n1,2,u\n2,3,v\n", r"x\.csv: 2 columns are called 'a' \(columns 1, 2\)"),
        ("a,label\n1,1e19\n2,1e20\n", r"label 0 is 1e\+19, too large for a class"),
        ("a,label\n1,1e300\n2,0\n", r"label 0 is 1e\+300, too large"),
    ],
)  # fmt: skip
def test_csv_files_that_are_refused(tmp_path, content, message):
    refuse(text(tmp_path / "x.csv", content), message)


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        (["01", "02", "10"], ("01", "02", "10")),
        (["3", "20", "100"], ("3", "20", "100")),
        (["1.0", "2.0", "1.0"], ("1", "2")),
        (["18446744073709551615", "18446744073709551614", "1"],
         ("1", "18446744073709551614", "18446744073709551615")),
        (["NA", "DE", "FR"], ("DE", "FR", "NA")),
        (['"say ""hi"""', '5" pipe', "x"], ('5" pipe', 'say "hi"', "x")),
    ],
)  # fmt: skip
def test_labels_keep_what_is_written(tmp_path, column, classes):
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(column * 2))
    assert load(text(tmp_path / "x.csv", "a,label\n" + rows), test_fraction=0).train.classes == classes


def test_a_csv_that_is_not_utf8_is_said_to_be(tmp_path):
    (tmp_path / "x.csv").write_bytes("a,label\n1,café\n2,thé\n".encode("latin1"))
    refuse(tmp_path / "x.csv", "column 'label' is not UTF-8; save the file again as UTF-8")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1e19, 1e20, 1e19, 1e20]), r"label 0 is 1e\+19, too large for a class: float64 cannot tell whole"),
        (np.array([0, 1e300, 0, 1.0]), r"label 1 is 1e\+300, too large"),
        (np.array([0, 2**24 + 2, 0, 1.0], dtype=np.float32), "label 1 is 16777218.0, too large"),
        (np.array([2**63, 1, 2**63, 1], dtype=np.uint64), "label 0 is 9223372036854775808, too large"),
        ([2**70, 1, 2**70, 1], "label 0 is 1180591620717411303424, too large"),
        (np.ma.array([0, 1, 0, 1], mask=[0, 1, 0, 0]), r"1 of 4 values are masked"),
        (["a", None, "a", "b"], r"label 1 is missing \(None\)"),
        (["a", float("nan"), "a", "b"], r"label 1 is missing \(nan\)"),
        (["1", 1, "1", 1], "label 0 is '1' and label 1 is 1; give texts or numbers, not both"),
        (np.array(["a", "", "a", "b"]), "label 1 is empty"),
    ],
)
def test_labels_that_are_refused(labels, message):
    refuse((np.arange(8.0).reshape(4, 2), labels), message)


def test_masked_inputs_are_refused_and_unmasked_ones_are_not():
    x = np.ma.array(np.arange(8.0).reshape(4, 2), mask=np.eye(4, 2, dtype=bool))
    refuse((x, [0, 1, 0, 1]), "^arrays: 2 of 8 values are masked, that is missing; fill them")
    assert len(load((np.ma.array(np.arange(8.0).reshape(4, 2)), [0, 1, 0, 1])).train) == 2


CELLS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), max_size=6),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.sampled_from("uvw")), min_size=2, max_size=8), st.sampled_from(",;\t"))
def test_any_file_of_the_csv_module_is_read_as_written_or_refused_in_one_line(tmp_path_factory, rows, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["a", "b", "label"])
    writer.writerows(rows)
    path = text(tmp_path_factory.mktemp("csv") / "x.csv", file.getvalue())
    table = read_csv(path)
    assert table.num_rows == len(rows)
    assert [str(v) for v in table.column("label").to_pylist()] == [r[2] for r in rows]
    try:
        s = load(path, test_fraction=0, missing="impute")
    except PotstillError as caught:
        refused = str(caught)
        assert "\n" not in refused
    else:
        assert [s.train.classes[i] for i in s.train.labels.tolist()] == [r[2] for r in rows]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='ab1," ;\n\r', max_size=40))
def test_no_text_ends_in_anything_but_data_or_one_line(tmp_path_factory, content):
    path = text(tmp_path_factory.mktemp("csv") / "x.csv", "a,label\n" + content)
    try:
        s = load(path, test_fraction=0, missing="impute")
    except PotstillError as caught:
        refused = str(caught)
        assert "\n" not in refused
    else:
        assert not any("\n" in c or not c.strip() for c in s.train.classes)


def test_the_card_and_inspect_say_the_kinds(tmp_path, capsys):
    import potstill
    from potstill.cli.main import main

    with_holes().to_csv(tmp_path / "pets.csv", index=False)
    words = ["distill", str(tmp_path / "pets.csv"), "--method", "random", "--ipc", "2", "--missing", "impute"]
    assert main([*words, "--out", str(tmp_path / "a.safetensors")]) == 0
    assert "--missing" not in capsys.readouterr().out, "the line that measures it reads this from the card"
    assert potstill.load(tmp_path / "a.safetensors").metadata["reading"]["missing"] == "impute"
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    said = "columns     2 numbers, 1 boolean, 1 date, 2 categories (colour of 4, name of town of 2)"
    assert said in capsys.readouterr().out
    card = potstill.load(tmp_path / "a.safetensors").metadata
    assert [c["kind"] for c in card["source"]["columns"]] == [
        "number", "number", "boolean", "category", "category", "date",
    ]  # fmt: skip
    assert card["input"]["columns"][:3] == ["weight", "legs", "wild"]
    assert main([*words[:-2], "--out", str(tmp_path / "b.safetensors")]) == 1
    assert "row 2, column 'weight' is empty" in capsys.readouterr().err


YES = [i % 2 == 0 for i in range(20)]


def written(path, labels):
    path.write_text("a,label\n" + "".join(f"{i},{y}\n" for i, y in enumerate(labels)))
    return path


@pytest.mark.parametrize("words", [("false", "true"), ("False", "True"), ("FALSE", "TRUE")])
def test_classes_of_true_and_false_are_called_as_they_are_written(tmp_path, words):
    s = load(written(tmp_path / "x.csv", [words[y] for y in YES]), test_fraction=0)
    assert s.train.classes == words
    assert s.train.labels.tolist() == [int(y) for y in YES]


@pytest.mark.parametrize("form", ["parquet", "frame", "array", "list", "column of an array"])
def test_boolean_labels_are_the_classes_false_and_true(tmp_path, form):
    x = np.arange(20.0)[:, None] ** 2
    if form == "parquet":
        data = tmp_path / "x.parquet"
        pq.write_table(pa.table({"a": x[:, 0], "label": YES}), data)
    elif form == "frame":
        data = pd.DataFrame({"a": x[:, 0], "label": YES})
    else:
        data = (x, {"array": np.array(YES), "list": YES, "column of an array": np.array(YES)[:, None]}[form])
    s = load(data, test_fraction=0)
    assert s.train.classes == ("False", "True")
    assert s.train.labels.tolist() == [int(y) for y in YES]
    mixed = load((x, np.array(YES), x[:4], [1, 0, 1, 0])) if form == "array" else None
    assert mixed is None or mixed.train.classes == ("0", "1")


def test_true_and_false_written_in_two_ways_are_refused(tmp_path):
    refuse(
        written(tmp_path / "x.csv", ["true", "false", "True", "false"]),
        r"column 'label' holds the labels 'true' \(row 1\) and 'True' \(row 3\); whether these are one class or two",
    )


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_labels_in_two_forms_of_unicode_are_one_class(tmp_path, form):
    labels = ["caf\u00e9", "cafe\u0301", "tea", "tea"] * 5
    if form == "csv":
        data, name = written(tmp_path / "x.csv", labels), "x.csv"
    else:
        data, name = pd.DataFrame({"a": range(20), "label": labels}), "frame"
    s = load(data, test_fraction=0)
    assert s.train.classes == ("caf\u00e9", "tea")
    assert s.train.labels.bincount().tolist() == [10, 10]
    assert f"{name}: labels written in different forms of Unicode were read as one class: 'café'" in s.notes
