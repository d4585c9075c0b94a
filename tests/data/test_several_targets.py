"""Tables of which several columns are to be predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import potstill


def flats(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 10, n)
    return pd.DataFrame({"size": size, "price": 3 * size, "floor": rng.integers(0, 9, n), "rent": size / 4})


@pytest.mark.parametrize("label", ["price,rent", " price , rent "])
def test_columns_with_commas_between_them_are_targets(label: str, tmp_path: Path) -> None:
    flats().to_csv(tmp_path / "flats.csv", index=False)
    splits = potstill.load_data(tmp_path / "flats.csv", task="regression", label=label)
    assert splits.train.task is not None
    assert splits.train.task.targets == ("price", "rent")
    assert splits.train.input.columns == ("size", "floor")
    size = splits.train.raw(torch.arange(len(splits.train)))[:, 0]
    torch.testing.assert_close(splits.train.targets, torch.stack([3 * size, size / 4], 1), rtol=1e-5, atol=1e-5)


def test_a_row_without_one_of_its_targets_is_left_out_or_refused() -> None:
    frame = flats()
    frame.loc[3, "rent"] = None
    frame.loc[4, "price"] = None
    splits = potstill.load_data(frame, task="regression", label="price,rent", missing="drop")
    assert splits.test is not None
    assert len(splits.train) + len(splits.test) == 58
    assert any("2 rows without a target were left out" in note for note in splits.notes)
    with pytest.raises(potstill.PotstillError):
        potstill.load_data(frame, task="regression", label="price,rent")


def test_training_and_test_frames_have_the_same_targets() -> None:
    splits = potstill.load_data((flats(), flats(20, 1)), task="regression", label="price,rent")
    assert splits.test is not None
    assert splits.test.targets.shape == (20, 2)


def test_a_name_that_holds_a_comma_is_one_column() -> None:
    frame = flats().rename(columns={"price": "price,rent"})
    splits = potstill.load_data(frame, task="regression", label="price,rent")
    assert splits.train.targets.shape[1] == 1


@pytest.mark.parametrize(("label", "message"), [
    ("price,rant", "there is no column 'rant'; did you mean 'rent'"), ("price,price", "each target must be named once"),
    (",", "each target must be named once"),
])  # fmt: skip
def test_targets_that_are_not_there_are_named(label: str, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.load_data(flats(), task="regression", label=label)


def test_a_set_is_exported_with_its_targets_under_their_names(tmp_path: Path) -> None:
    splits = potstill.load_data(flats(), task="regression", label="price,rent")
    small = potstill.distill(splits, "random", items=5, progress=None)
    path = potstill.export(small, "csv", tmp_path / "small.csv")
    table = pd.read_csv(path)
    assert list(table.columns) == ["size", "floor", "price", "rent"]
    np.testing.assert_allclose(table["price"], 3 * table["size"], rtol=1e-5)
    again = potstill.load_data(path, task="regression", label="price,rent", test_fraction=0)
    assert again.train.targets.shape == (5, 2)


def test_several_columns_of_classes_are_refused_with_the_task_that_takes_them() -> None:
    with pytest.raises(potstill.PotstillError, match='several columns are targets of `task="regression"` alone'):
        potstill.load_data(flats(), label="price,rent")


def test_a_single_row_is_said_to_be_one_and_no_class() -> None:
    with pytest.raises(potstill.PotstillError, match="there is a single sample, so no test split can be drawn"):
        potstill.load_data(flats(1), task="regression", label="price")
