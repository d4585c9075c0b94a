"""Columns that are removed from a table before it is read."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import potstill
from potstill.data.read_options import check_read_options, merge_read_options
from potstill.errors import PotstillError

ROWS = 40


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "id": [f"person {i}" for i in range(ROWS)], "age": rng.integers(20, 60, ROWS), "town": ["a", "b"] * (ROWS // 2),
        "after": rng.random(ROWS), "label": ["x", "y"] * (ROWS // 2),
    })  # fmt: skip


def test_a_table_is_read_as_if_the_columns_were_not_there(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    wanted = potstill.load_data(frame.drop(columns=["id", "after"]))
    for data in (frame, path):
        found = potstill.load_data(data, remove_columns=["id", "after"])
        assert found.train.content_hash == wanted.train.content_hash
    one = potstill.load_data(frame.drop(columns="id"), remove_columns="after")
    assert one.train.content_hash == wanted.train.content_hash


def test_other_tasks_remove_columns_too(frame: pd.DataFrame) -> None:
    frame["label"] = np.arange(ROWS) / ROWS
    found = potstill.load_data(frame, task="regression", remove_columns=["id"])
    assert (
        found.train.content_hash == potstill.load_data(frame.drop(columns="id"), task="regression").train.content_hash
    )
    found = potstill.load_data(frame, task="forecast:window=2,horizon=1", remove_columns=["age", "label"])
    assert found.train.task.variables == ("after",)  # type: ignore[attr-defined]


def test_channels_of_series_with_classes_are_removed_too() -> None:
    t = np.arange(12)
    frame = pd.concat([
        pd.DataFrame({"who": f"s{i}", "t": t, "a": (t * i) % 7, "b": (t * 7 + i) % 5, "label": "xy"[i % 2]})
        for i in range(8)
    ])  # fmt: skip
    options = {"series": "who", "label": "label", "kind": "series"}
    assert potstill.load_data(frame, **options).train.input.shape == (2, 12)
    found = potstill.load_data(frame, **options, remove_columns="b")
    assert found.train.content_hash == potstill.load_data(frame.drop(columns="b"), **options).train.content_hash


def test_a_set_says_which_columns_were_removed_and_reads_its_data_alike(frame: pd.DataFrame, tmp_path: Path) -> None:
    splits = potstill.load_data(frame, remove_columns=["id", "after"])
    small = potstill.distill(splits, method="random", ipc=3, progress=None)
    small.save(tmp_path / "s.safetensors")
    card = potstill.load(tmp_path / "s.safetensors").metadata
    assert card["reading"] == {"remove_columns": ["id", "after"]}
    options, notes = merge_read_options(json.loads(json.dumps(card)), {})
    assert options == {"remove_columns": ("id", "after")}
    assert notes == ("read as the set was made: remove columns id, after",)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["idd"], "unknown column 'idd'; did you mean id"),
        (["label"], "column 'label' holds the labels, and cannot be removed"),
        (["id", "id"], "different names of columns are required"),
        (3, "different names of columns are required"),
        (["id", "age", "town", "after"], "there is no column beside 'label'"),
    ],
)
def test_what_cannot_be_removed_is_refused(frame: pd.DataFrame, columns: object, words: str) -> None:
    with pytest.raises(PotstillError, match=words):
        potstill.load_data(frame, remove_columns=columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["attribute", "group"])
def test_a_removed_column_says_neither_attribute_nor_group(frame: pd.DataFrame, option: str) -> None:
    """A set's own reading may have removed it: then "there is no column" was all that was said."""
    with pytest.raises(PotstillError, match=f"column 'town' is removed, and cannot say the {option}; leave it out"):
        potstill.load_data(frame, remove_columns=["id", "town"], **{option: "town"})  # type: ignore[arg-type]


def test_other_data_have_no_columns() -> None:
    with pytest.raises(PotstillError, match="columns are removed from tables"):
        potstill.load_data("digits", remove_columns=["id"])
    with pytest.raises(PotstillError, match="columns are removed from tables"):
        potstill.load_data((np.zeros((8, 2)), np.arange(8) % 2), remove_columns=["id"])


@pytest.mark.parametrize("value", [["a", 3], "a", {"a": 1}])
def test_a_stranger_cannot_name_columns_that_are_no_names(value: object) -> None:
    with pytest.raises(PotstillError, match="no valid 'remove_columns'"):
        check_read_options({"remove_columns": value})


def test_all_columns_of_free_text_are_named_at_once() -> None:
    texts = [f"t{i}" for i in range(150)]
    frame = pd.DataFrame({"name": texts, "n": range(150), "key": texts[::-1], "label": ["x", "y"] * 75})
    with pytest.raises(PotstillError, match=r"'name' holds 150 different texts \(so do 'key'\).*\"name,key\""):
        potstill.load_data(frame)
    found = potstill.load_data(frame, remove_columns=["name", "key"])
    assert [c.name for c in found.train.columns] == ["n"]  # type: ignore[attr-defined]
