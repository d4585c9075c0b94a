"""Columns that alone tell the label: named where they do, and not where a feature is merely strong."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets

from potstill.data import load
from potstill.data.leaking_columns import leaking_columns

RNG = np.random.default_rng(2)


def flowers():
    data = datasets.load_iris(as_frame=True)
    return data.data.assign(label=[data.target_names[t] for t in data.target])


def found(data, **options):
    return [note for note in load(data, **options).notes if "alone tell" in note]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
@pytest.mark.parametrize("form", ["frame", "arrays"])
def test_strong_features_of_real_tables_are_no_leak(name, form):
    data = getattr(datasets, f"load_{name}")(as_frame=True)
    assert found((data.data, data.target) if form == "frame" else (data.data.to_numpy(), data.target.to_numpy())) == []


def test_features_of_real_targets_are_no_leak():
    data = datasets.load_diabetes(as_frame=True)
    assert found((data.data, data.target), task="regression") == []
    n = 2000
    carat = RNG.gamma(2, 0.4, n).round(2) + 0.2
    stones = pd.DataFrame({
        "carat": carat, "x": (6.4 * carat ** (1 / 3) + RNG.normal(0, 0.03, n)).round(2),
        "cut": RNG.choice(["Fair", "Good", "Ideal"], n),
        "price": np.exp(8 + 1.7 * np.log(carat) + RNG.normal(0, 0.2, n)),
    })  # fmt: skip
    assert found(stones, label="price", task="regression") == []
    assert found(stones.drop(columns="price"), label="cut") == []


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("Label", lambda f: f["label"].str.upper()),
        ("code", lambda f: f["label"].map({"setosa": 7.5, "versicolor": -1, "virginica": 3})),
        ("Id", lambda _: range(1, 151)),
        ("seen", lambda _: pd.date_range("2024-01-01", periods=150)),
        ("treated after", lambda f: f["label"].map({"setosa": "no", "versicolor": "pill", "virginica": "knife"})),
        ("with a hole", lambda f: f["label"].mask(f.index == 3)),
    ],
)
def test_what_tells_the_label_is_named(column, cells):
    frame = flowers()
    frame[column] = cells(frame)
    notes = found(frame, missing="impute")
    assert notes == [
        f"frame: column {column!r} alone tells the label: a copy, what is known only after it, or a number of rows "
        "that are sorted by it? Then leave it out, or scores mean nothing"
    ]


def test_several_are_named_together_and_shuffled_rows_are_not():
    frame = flowers().assign(Id=range(150), again=lambda f: f["label"])
    assert found(frame)[0].startswith("frame: columns 'Id', 'again' each alone tell the label")
    shuffled = flowers().sample(frac=1, random_state=0, ignore_index=True).assign(Id=range(150))
    assert found(shuffled) == []
    names = flowers().assign(who=[f"plant {i % 75}" for i in range(150)])
    assert found(names) == [], "a name for every two rows tells no more than the rows"


def test_copies_of_a_target_are_named():
    data = datasets.load_diabetes(as_frame=True)
    frame = data.data.assign(label=data.target)
    taxed = frame.assign(taxed=1.19 * frame["label"] + 3, rank=frame["label"].rank())
    assert "columns 'taxed', 'rank' each alone tell the target" in found(taxed, task="regression")[0]
    grouped = frame.assign(label=RNG.integers(0, 4, len(frame)).astype(float)).assign(
        group=lambda f: f["label"].map({0: "a", 1: "b", 2: "c", 3: "d"})
    )
    assert "column 'group' alone tells the target" in found(grouped, task="regression")[0]


def test_large_tables_are_looked_at_in_part():
    n = 300_000
    x = RNG.normal(size=(n, 60)).astype(np.float32)
    y = RNG.integers(0, 3, n)
    x[:, 17] = y
    notes = leaking_columns(torch.from_numpy(x), torch.from_numpy(y), None, "large")
    assert notes == leaking_columns(torch.from_numpy(x), torch.from_numpy(y), None, "large")
    assert notes[0].startswith("large: column '18' alone tells the label")


@pytest.mark.parametrize("n", [2, 3, 10, 30])
def test_small_tables_raise_no_alarm_by_chance(n):
    frame = pd.DataFrame({"a": RNG.normal(size=n), "b": RNG.normal(size=n), "label": [i % 2 for i in range(n)]})
    assert found(frame, test_fraction=0) == []
