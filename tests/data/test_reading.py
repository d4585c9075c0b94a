"""The reading options travel from `load_data` to the card, and are checked when they come from one."""

from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill.data.read_options import ReadOptions, check_read_options, merge_read_options
from potstill.errors import PotstillError


def _table(path: Path) -> Path:
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).numpy()
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{'xy'[i % 2]}" for i, (a, b, c) in enumerate(values)]
    path.write_text("a,b,c,kind\n" + "\n".join(rows) + "\n")
    return path


def test_the_options_that_were_given_stand_on_the_card_and_read_the_same_data_again(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv")
    given = {"label": "kind", "split_seed": 3, "test_fraction": 0.3}
    splits = potstill.load_data(table, **given)
    assert dict(splits.reading) == given
    small = potstill.distill(splits, "random", ipc=2, progress=None)
    small.save(tmp_path / "s.safetensors")
    options = check_read_options(potstill.load(tmp_path / "s.safetensors").metadata["reading"])
    again = potstill.load_data(table, **options)
    assert again.train.content_hash == splits.train.content_hash == small.metadata["source"]["hash"]


def test_where_nothing_was_given_nothing_stands_there_and_places_never_do(tmp_path: Path) -> None:
    assert ReadOptions(root=tmp_path, device="cpu", check_cache=True).to_json() == {}
    assert ReadOptions(size=(8, 9), horizontal_flip=False).to_json() == {"size": [8, 9], "horizontal_flip": False}
    assert dict(potstill.load_data((np.zeros((4, 1, 3, 3), np.uint8), [0, 0, 1, 1])).reading) == {}


@pytest.mark.parametrize(
    "card",
    [[], "label", {"root": "/"}, {"size": 8}, {"size": [8]}, {"size": [8, "8"]}, {"size": [True, True]},
     {"split_seed": True}, {"horizontal_flip": 1}, {"label": 3}, {"test_fraction": "0.5"}],
)  # fmt: skip
def test_a_card_that_says_something_else_is_refused(card: object) -> None:
    with pytest.raises(PotstillError, match=r"the reading in its metadata .*; get the file again"):
        check_read_options(card)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)*b", "(.*)*x", "(x+x+)+y", ".*.*.*.*z", "a" * 300, r"(a)\1*", "(a|b){1,9}"]
)
def test_a_strangers_expression_that_may_search_for_long_is_refused(pattern: str) -> None:
    with pytest.raises(PotstillError, match=r"a regular expression that may search for very long; .*`group=REGEX`"):
        check_read_options({"group": pattern})
    assert merge_read_options({"reading": {"group": pattern}}, {"group": "parent"})[0] == {"group": "parent"}


@pytest.mark.parametrize(
    "pattern",
    ["parent", "patient", "scene number", r"([^/]+)/[a-z]+", r"(patient_\d+)", r"(?P<who>\w+)_\d+\.png", "[*+]x"],
)
def test_expressions_of_people_are_taken_from_a_card(pattern: str) -> None:
    assert check_read_options({"group": pattern}) == {"group": pattern}
