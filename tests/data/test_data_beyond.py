"""Real values that floats of 32 bits do not hold: what they differ by is kept, or they are refused by name."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.data import load
from potstill.data.canonicalize import float32_offsets
from potstill.errors import PotstillError
from potstill.tasks.regression import target_statistics


def houses(base, n=60):
    x = np.arange(n) % 17
    return pd.DataFrame({"size": x, "age": (x * 7) % 5, "price": base + 3.0 * x})


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def test_targets_far_from_zero_keep_what_they_differ_by():
    far, near = (load(houses(base), label="price", task="regression") for base in (1e9, 0.0))
    assert torch.equal(far.train.targets - far.train.targets.min(), near.train.targets)
    assert far.train.task.offset == (1e9,)
    assert near.train.task.offset == ()
    assert any(
        note == "frame: target 'price' is taken less 1,000,000,000: floats of 32 bits do not hold its digits; scores "
        "stand in its own unit" for note in far.notes
    )  # fmt: skip
    worst = [s.train.task.chance_score(s.test.targets) for s in (far, near)]
    assert worst[0] == pytest.approx(worst[1], rel=1e-6)
    assert worst[0] > 10


def test_arrays_of_targets_too():
    x, y = np.arange(40.0).reshape(20, 2), np.stack([np.arange(20.0), 1e12 + np.arange(20.0)], 1)
    splits = load((x, y), task="regression", test_fraction=0)
    assert splits.train.task.offset == (0, 1e12)
    assert torch.equal(splits.train.targets[:, 1], torch.arange(20.0))
    refuse((x, y * 1e30), r"row 1, column 'target 2' is 1e\+42; floats of 32 bits end", task="regression")


def test_scores_exports_and_cards_stand_in_the_units_of_the_data(tmp_path, capsys):
    found = {}
    for base in (0, 10**9):
        frame, path = houses(base), tmp_path / f"{base}.csv"
        frame.to_csv(path, index=False)
        words = ["--label", "price", "--task", "regression"]
        small = str(tmp_path / f"{base}.safetensors")
        assert main(["distill", str(path), *words, "--method", "random", "--items", "20", "--out", small]) == 0
        capsys.readouterr()
        assert main(["evaluate", small, "--data", str(path), *words, "--network", "linear-model", "--json"]) == 0
        found[base] = json.loads(capsys.readouterr().out)["networks"]["linear-model"]["score"]["mean"]
        potstill.export(potstill.load(small), "parquet", tmp_path / f"{base}.parquet")
        targets = pyarrow.parquet.read_table(tmp_path / f"{base}.parquet")["price"].to_numpy()
        assert set(targets) <= set(frame["price"])
    assert found[10**9] == pytest.approx(found[0], abs=1e-3)
    assert potstill.load(tmp_path / f"{10**9}.safetensors").task.offset == (1e9,)
    other = str(tmp_path / "0.csv")
    assert main(["evaluate", str(tmp_path / f"{10**9}.safetensors"), "--data", other, *words]) == 1
    assert "targets are taken less 1,000,000,000, the data's less nothing; give the data" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1e39", "-1e300", "inf"])
def test_a_target_beyond_32_bits_is_refused_by_row(tmp_path, value):
    path = tmp_path / "t.csv"
    path.write_text("size,price\n" + "".join(f"{i},{value if i == 7 else i}\n" for i in range(20)))
    refuse(path, "row 8, column 'price' is", label="price", task="regression")


def test_columns_far_from_zero_are_taken_less_what_they_have_in_common():
    frame = houses(0.0).assign(size=lambda f: 1e9 + f["size"])
    splits = load(frame.assign(label=[i % 2 for i in range(60)]).drop(columns="price"), test_fraction=0)
    assert splits.train.columns[0].offset == 1e9
    assert splits.train.raw(torch.arange(60))[:, 0].tolist() == [i % 17 for i in range(60)]
    assert "frame: column 'size' is taken less 1,000,000,000: floats of 32 bits do not hold its digits" in splits.notes
    gone = frame.assign(label=[i % 2 for i in range(60)]).drop(columns="price")
    gone.loc[3, "size"] = np.nan
    assert load(gone, test_fraction=0, missing="impute").train.raw(torch.tensor([3]))[0, 0] == 7  # the median
    refuse(gone.assign(size=1e39), r"row 1, column 'size' is 1e\+39; floats of 32 bits end at 3.4e38; scale the column")


def test_targets_in_tiny_units_are_not_constant():
    assert target_statistics(torch.tensor([[0.0], [2e-15]]))[1][0] == pytest.approx(1e-15)
    assert target_statistics(torch.full((7, 1), 0.1))[1] == (1.0,)
    assert target_statistics(torch.full((7, 1), 1e9 / 3))[1] == (1.0,)


@given(st.integers(-12, 12), st.floats(-6, 6), st.floats(0.1, 100), st.integers(2, 50))
def test_what_is_left_is_held_by_32_bits(power, mantissa, spread, n):
    x = mantissa * 10.0**power + spread * np.linspace(0, 1, n) ** 2
    (less,) = float32_offsets(x[:, None])
    if less or n > 2:
        after = x - less
        assert np.abs(after - after.astype(np.float32)).max() <= 1e-3 * max(x.std(), 1e-300) or x.std() == 0
