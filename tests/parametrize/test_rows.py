"""Rows that a table can hold: by hand, and sets of them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import potstill
from potstill.core import DecodeContext, Splits
from potstill.errors import PotstillError
from potstill.exporters import to_pandas
from potstill.parametrize.rows import Rows, TableColumns, has_categories

QUICK: dict[str, Any] = {"steps": 5, "progress": None, "device": "cpu", "executor": "serial"}


def shop(n: int = 60) -> pd.DataFrame:
    """Whole and real numbers with gaps, categories with gaps, truth values."""
    at = np.arange(n)
    price: Any = np.round(0.1 + at / 7, 2)
    price[::9] = np.nan
    town = np.array(["Zürich", "Bern, BE", "Genève"], dtype=object)[at % 3]
    town[::7] = None
    return pd.DataFrame(
        {"sold": at % 8, "price": price, "town": town, "new": at % 4 == 0, "kind": np.where(at % 2, "cat", "dog")}
    )


def table(n: int = 60) -> Splits:
    return potstill.load_data(shop(n), label="kind", missing="impute", test_fraction=0)


def naive(row: list[float], real: list[list[float]], groups: list[list[int]]) -> list[float]:
    """Nearest row that the table can hold, value by value."""
    found = []
    for j, value in enumerate(row):
        column = [r[j] for r in real]
        kept = min(max(value, min(column)), max(column))
        found.append(float(round(kept)) if all(v == round(v) for v in column) else kept)
    for group in groups:
        largest = max(group, key=lambda j: (row[j], -j))
        for j in group:
            found[j] = float(j == largest)
    return found


def groups_of(train: Any) -> list[list[int]]:
    groups, at = [], 0
    for column in train.columns:
        width = len(column.values) if column.kind == "category" else 1
        if width > 1:
            groups.append(list(range(at, at + width)))
        at += width
    return groups


def test_each_row_decodes_to_the_nearest_one_that_the_table_can_hold() -> None:
    train = table().train
    real = train.raw(torch.arange(len(train)))
    x = real[:20] + torch.randn(20, real.shape[1], generator=torch.Generator().manual_seed(0))
    groups = groups_of(train)
    assert [len(g) for g in groups] == [4]  # three towns, and none said
    expected = torch.tensor([naive(row, real.tolist(), groups) for row in x.tolist()])
    torch.testing.assert_close(TableColumns.of(train).nearest(x), expected)


def test_real_rows_are_kept_and_the_gradient_goes_straight_through() -> None:
    train = table().train
    decoder = Rows().bind(train)
    real = train.fetch(torch.arange(len(train))).x
    context = DecodeContext(input=train.input)
    torch.testing.assert_close(decoder.decode({"inputs": real}, context), real)
    assert torch.equal(decoder.stored(train.raw(torch.arange(len(train)))), train.raw(torch.arange(len(train))))
    x = (real + 0.4).requires_grad_()
    decoded = decoder.decode({"inputs": x}, context)
    weight = torch.randn_like(decoded)
    (decoded * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)
    inside = decoder.normalization.invert(decoded.detach())  # type: ignore[union-attr]
    torch.testing.assert_close(inside, decoder.columns.nearest(inside), atol=1e-5, rtol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["dm", "kip"])
def test_a_set_holds_rows_of_the_table(method: str, tmp_path: Any) -> None:
    data = table()
    small = potstill.distill(data, method, ipc=3, **QUICK)
    assert small.metadata["config"]["parametrization"] == "rows"
    columns = TableColumns.of(data.train)
    assert torch.equal(small.inputs[:, columns.groups[0]].sum(1), torch.ones(len(small)))
    frame = to_pandas(small)
    assert set(frame["new"]) <= {True, False}
    assert set(frame["town"].dropna()) <= set(shop()["town"].dropna())
    assert frame["sold"].between(0, 7).all()
    small.save(tmp_path / "small.safetensors")
    again = potstill.load(tmp_path / "small.safetensors")
    assert torch.equal(again.inputs, small.inputs)
    torch.testing.assert_close(again.model_space(), small.model_space())


@pytest.mark.parametrize("codec", [None, "columns:bits=3", "uint4", "uint1"])
def test_bytes_are_held_by_any_codec_and_columns_keeps_categories(codec: str | None) -> None:
    data = table(300)
    small = potstill.distill(data, "dm", bytes=150, codec=codec, **QUICK)
    assert small.metadata["bytes"]["total"] <= 150
    assert small.metadata["codec"]["name"] == (codec or "columns")
    values = small.inputs[:, TableColumns.of(data.train).groups[0]]
    nearest = torch.nn.functional.one_hot(values.argmax(1), 4).float()
    assert torch.equal(values.round(), nearest)
    if codec is None or codec.startswith("columns"):
        assert torch.equal(values, nearest)


def test_a_plan_counts_the_rows_and_says_what_they_are() -> None:
    plan = potstill.plan(table(), "dm", ipc=3, profile_steps=0)
    assert plan.parametrization == "rows"
    assert plan.bytes == {"inputs": 46, "decoder": 0, "labels": 1, "total": 47}
    assert any(note.startswith("parametrization rows: of each category one value is 1") for note in plan.notes)


def test_pixels_and_stores_that_round_before_the_end_are_as_they_were() -> None:
    data = table()
    free = potstill.distill(data, "dm", ipc=3, parametrization="pixels", **QUICK)
    sums = free.inputs[:, TableColumns.of(data.train).groups[0]].sum(1)
    assert not torch.equal(sums, torch.ones(len(sums)))
    aware = potstill.distill(data, "dm", ipc=3, codec="uint4:aware=true", **QUICK)
    assert aware.metadata["config"]["parametrization"] == "pixels"
    with pytest.raises(PotstillError, match="rounds to its own levels while the set is made; take codec columns"):
        potstill.distill(data, "dm", ipc=3, parametrization="rows", codec="uint4:aware=true", **QUICK)


def test_it_is_for_tables_in_a_run() -> None:
    with pytest.raises(PotstillError, match="rows of a table, but digits is image data"):
        potstill.distill("digits", "dm", ipc=1, parametrization="rows", **QUICK)
    with pytest.raises(PotstillError, match="works in a run alone"):
        Rows().stored(torch.zeros(1, 2))
    assert not has_categories(potstill.load_data("digits").train)
    numbers = potstill.load_data(shop().drop(columns="town"), label="kind", missing="impute").train
    assert not has_categories(numbers)
    made = potstill.distill(Splits(train=numbers, test=None), "dm", ipc=2, parametrization="rows", **QUICK)
    assert torch.equal(made.inputs[:, 0], made.inputs[:, 0].round())
