"""A set of rows leaves Potstill as the table that it was made of: ``to_pandas``, Parquet and CSV."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.exporters import to_pandas
from potstill.exporters.table_rows import names_as_type, source_table

N = 24


def shop() -> pd.DataFrame:
    """Every kind of column: whole and real numbers, booleans, texts, categories of numbers, days, moments."""
    n = np.arange(N)
    return pd.DataFrame(
        {
            "sold": n.astype("int32") % 7, "price": np.round(0.1 + n / 3, 2), "new": n % 3 == 0,
            "town": np.where(n % 2, "Zürich", "Bern, BE"), "size": pd.Categorical(n % 3 + 36),
            "day": pd.date_range("2021-03-01", periods=N, freq="D").astype("datetime64[ns]"),
            "moment": pd.date_range("2021-03-01 06:30", periods=N, freq="37min", tz="Europe/Berlin", unit="ns"),
            "species": np.where(n % 4 < 2, "cat", "dog"),
        }
    )  # fmt: skip


def made(frame: Any, label: str = "species", method: Any = "random", how: Any = None, **more: Any) -> Distilled:
    data = potstill.load_data(frame, label=label, test_fraction=0, **more)
    size = {"ipc": 4} if data.train.classes else {"items": 5}
    return potstill.distill(data, method, **size, progress=None, **(how or {}))


def test_a_selection_as_a_frame_is_its_rows() -> None:
    frame = shop()
    small = made(frame)
    assert small.index is not None
    rows = frame.iloc[small.index.numpy()].reset_index(drop=True)
    found = to_pandas(small)
    assert list(found.columns) == list(rows.columns)
    assert found.drop(columns="species").dtypes.to_dict() == rows.drop(columns="species").dtypes.to_dict()
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)


def test_what_was_made_has_the_types_of_the_source() -> None:
    frame = shop()
    found = to_pandas(made(frame, method="dm", how={"steps": 3, "lr": 5.0}))
    assert found.drop(columns="species").dtypes.to_dict() == frame.drop(columns="species").dtypes.to_dict()
    assert set(found["town"]) <= {"Zürich", "Bern, BE"}
    assert set(found["size"]) <= {36, 37, 38}
    assert (found["day"] == found["day"].dt.normalize()).all()
    assert found["species"].value_counts().to_dict() == {"cat": 4, "dog": 4}


def test_a_category_for_missing_cells_is_missing_again() -> None:
    frame = shop()
    frame["town"] = frame["town"].where(np.arange(N) % 5 > 0)
    small = made(frame, missing="impute", method="random")
    assert small.index is not None
    assert to_pandas(small)["town"].isna().tolist() == frame["town"].iloc[small.index.numpy()].isna().tolist()


@pytest.mark.parametrize("kind", ["int64", "bool", "category", "str"])
def test_labels_come_back_in_their_type(kind: str) -> None:
    frame = shop()
    y = pd.Series(np.arange(N) % 2 + (5 if kind == "int64" else 0), name="y").astype(kind)
    frame["species"] = y
    small = made(frame)
    assert small.index is not None
    found = to_pandas(small)["species"]
    assert found.tolist() == y.iloc[small.index.numpy()].tolist()
    assert (found.dtype == y.dtype) or kind == "str"


def test_targets_come_back_by_their_name() -> None:
    small = made(shop().drop(columns="species"), label="price", task="regression")
    assert small.index is not None
    found = to_pandas(small)
    assert list(found.columns)[-1] == "price"
    assert found["price"].tolist() == shop()["price"].iloc[small.index.numpy()].tolist()


def test_numbers_that_32_bits_do_not_hold_come_back(tmp_path: Path) -> None:
    frame = shop().assign(stamp=1_600_000_000 + np.arange(N), price=1e9 + np.arange(N) / 4)
    small = made(frame.drop(columns="species"), label="price", task="regression")
    assert small.index is not None
    rows = frame.iloc[small.index.numpy()]
    assert to_pandas(small)["stamp"].tolist() == rows["stamp"].tolist()
    assert to_pandas(small)["price"].tolist() == rows["price"].tolist()


def test_soft_labels_and_weights_stand_beside(tmp_path: Path) -> None:
    frame = shop().rename(columns={"price": "weight"})
    small = made(frame, method="craig")
    assert small.weights is not None
    found = to_pandas(small)
    assert found["weight"].dtype == np.float64  # the source's own
    assert found["weight_"].tolist() == small.weights.tolist()
    potstill.export(small, "parquet", tmp_path / "s.parquet")
    data = potstill.load_data(tmp_path / "s.parquet", test_fraction=0)
    assert [c.name for c in data.train.columns] == [c for c in frame.columns if c != "species"]
    assert any("weight_, which a distilled set has beside its rows" in note for note in data.notes)


def test_arrays_have_names_and_whole_class_names_are_numbers() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).numpy()
    small = potstill.distill(
        potstill.load_data((x, [3, 7] * 10), test_fraction=0), "random", ipc=2, progress=None, codec="float32"
    )
    found = to_pandas(small)
    assert list(found.columns) == ["x0", "x1", "x2", "label"]
    assert sorted(found["label"]) == [3, 3, 7, 7]
    assert np.array_equal(found[["x0", "x1", "x2"]].to_numpy(), small.inputs.numpy())


def test_pictures_are_no_rows() -> None:
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match=r'holds no rows of a table, but inputs of kind image; export.*`to="png"`'):
        to_pandas(small)


cells = {
    "number": st.floats(-1e6, 1e6, width=32).map(lambda v: round(v, 3)), "whole": st.integers(-(2**20), 2**20),
    "boolean": st.booleans(), "day": st.datetimes(pd.Timestamp("1950-01-01"), pd.Timestamp("2060-01-01")),
    "text": st.sampled_from(["a", "b c", 'say "x"', "ü,;", "N", "-"]),
}  # fmt: skip


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    kinds = draw(st.lists(st.sampled_from(sorted(cells)), min_size=1, max_size=4))
    rows = draw(st.integers(6, 10))
    found = {}
    for n, kind in enumerate(kinds):
        values = draw(st.lists(cells[kind], min_size=rows, max_size=rows))
        name = draw(st.sampled_from(["a", "b=c", "weight", "label x", "größe"]))
        column = pd.Series(values)
        found[f"{name} {n}"] = column.dt.normalize() if kind == "day" else column
    found["y"] = pd.Series(draw(st.permutations(["01", "1.5x", "c"] * 2 + ["c"] * (rows - 6))))
    return pd.DataFrame(found)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=frames(), form=st.sampled_from(["parquet", "csv"]))
def test_an_exported_table_is_read_as_its_source_was(frame: pd.DataFrame, form: str, tmp_path: Path) -> None:
    data = potstill.load_data(frame, label="y", test_fraction=0)
    small = potstill.distill(data, "random", ipc=2, progress=None)
    path = potstill.export(small, form, tmp_path / f"s.{form}")
    again = potstill.load_data(path, label="y", test_fraction=0)
    assert again.train.classes == data.train.classes
    assert again.train.labels.tolist() == small.labels.tolist()
    first = {c.name: c for c in data.train.columns}
    assert [(c.name, c.kind) for c in again.train.columns] == [(c.name, c.kind) for c in first.values()]
    for column in again.train.columns:
        assert set(column.values) <= set(first[column.name].values)
    back = to_pandas(potstill.distill(again, "random", ipc=2, progress=None, codec="float32"))
    assert sorted(map(tuple, back.astype(str).to_numpy())) == sorted(
        map(tuple, to_pandas(small)[list(back.columns)].astype(back.dtypes.to_dict()).astype(str).to_numpy())
    )


def test_other_programs_read_the_parquet_file(tmp_path: Path) -> None:
    import datasets

    small = made(shop())
    potstill.export(small, "parquet", tmp_path / "s.parquet")
    frame = pd.read_parquet(tmp_path / "s.parquet")
    assert frame["size"].dtype == "category"  # of texts: Parquet has no categories of numbers
    frame["size"] = frame["size"].astype("int64").astype("category")
    pd.testing.assert_frame_equal(frame, to_pandas(small), check_categorical=False)
    again = potstill.load_data(tmp_path / "s.parquet", test_fraction=0)
    assert [c.kind for c in again.train.columns] == [c["kind"] for c in small.metadata["source"]["columns"]]
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "s.parquet"), cache_dir=str(tmp_path / "c"))
    assert set(rows["train"]["species"]) == {"cat", "dog"}
    assert set(rows["train"]["town"]) <= {"Zürich", "Bern, BE"}


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop().drop(columns="moment").to_csv(tmp_path / "shop.csv", index=False)
    small, out = str(tmp_path / "s.safetensors"), str(tmp_path / "out.csv")
    words = [
        "distill",
        str(tmp_path / "shop.csv"),
        "--label",
        "species",
        "--method",
        "dm",
        "--steps",
        "2",
        "--ipc",
        "2",
    ]
    assert main([*words, "--out", small, "--quiet"]) == 0
    assert main(["export", small, "--to", "csv", "--out", out]) == 0
    found = pd.read_csv(out, parse_dates=["day"])
    assert list(found.columns) == list(shop().drop(columns="moment").columns)
    assert (found["sold"].dtype, found["new"].dtype) == (np.int64, np.bool_)
    assert sorted(found["species"]) == ["cat", "cat", "dog", "dog"]
    assert main(["distill", "digits", "--method", "random", "--ipc", "1", "--out", small, "--force", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["export", small, "--to", "csv", "--out", out]) == 1
    assert "this set holds no rows of a table, but inputs of kind image; export pictures with --to png" in (
        capsys.readouterr().err
    )


def test_a_line_break_is_not_written_to_csv(tmp_path: Path) -> None:
    frame = shop().assign(town=np.where(np.arange(N) % 2, "a\nb", "c"))
    with pytest.raises(PotstillError, match=r"column 'town' holds a line break.*`to=\"parquet\"`") as raised:
        potstill.export(made(frame), "csv", tmp_path / "s.csv")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop(), lambda c: c.append(c[0]), lambda c: c[0].pop("name"), lambda c: c[0].update(kind="x"),
        lambda c: c[3].update(values=["a"] * 9), lambda c: c[3].update(values=[]), lambda c: c[5].update(since="soon"),
        lambda c: c[5].update(since=None), lambda c: c[0].update(type=3), lambda c: c[0].update(values=["a"]),
        lambda c: c.clear(), lambda c: c[0].update(name=c[1]["name"]),
    ],
)  # fmt: skip
def test_a_card_that_lies_about_columns_is_one_line(change: Any) -> None:
    small = made(shop())
    small.metadata = copy.deepcopy(small.metadata)
    change(small.metadata["source"]["columns"])
    with pytest.raises(PotstillError, match=r"source\.columns does not describe its inputs"):
        to_pandas(small)


@pytest.mark.parametrize(
    "word", ["int64", "int8", "os.system", "timestamp[ns, tz=Nowhere/At]", "timestamp[ns, tz=../../x]", "category<x>"]
)
def test_a_type_that_does_not_suit_is_nothing_worse_than_another_type(word: str) -> None:
    small = made(shop())
    small.metadata = copy.deepcopy(small.metadata)
    for column in small.metadata["source"]["columns"]:
        column["type"] = word
    small.metadata["source"]["label"] = {"name": 3, "type": word}
    assert len(to_pandas(small)) == len(small)
    assert names_as_type(["cat", "dog"], word).to_pylist() == ["cat", "dog"]


def test_dates_beyond_what_a_type_holds_are_its_ends() -> None:
    small = made(shop(), method="dm", how={"steps": 1, "lr": 1e12})
    years = to_pandas(small)["day"].dt.year
    assert years.between(1678, 2262).all()


def test_the_card_grows_by_little() -> None:
    small = made(shop())
    said = [c.get("type", "") for c in small.metadata["source"]["columns"]]
    assert said == ["int32", "", "", "", "category<int64>", "timestamp[ns]", "timestamp[ns, tz=Europe/Berlin]"]
    assert small.metadata["source"]["label"] == {"name": "species"}
    table = source_table(small)
    assert table.schema.metadata.keys() == {b"huggingface", b"potstill"}
    assert pyarrow.parquet is not None
