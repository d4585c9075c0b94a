"""Method ``real``: the best coded real samples in so many bytes or items."""

from pathlib import Path

import pytest
import torch

import potstill
from potstill.automl.result import describe_choice
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.methods import Real


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = potstill.load_data("digits")
    assert isinstance(splits.train, TensorSource)
    return Splits(train=splits.train.subset(torch.arange(400)), test=splits.test)


def test_bytes_are_filled_by_what_the_search_chose(digits: Splits, tmp_path: Path) -> None:
    small = potstill.distill(digits, "real", bytes=900, network="convnet-d1-w4", progress=None)
    card = small.metadata
    assert card["bytes"]["total"] <= 900
    choice = small.choice
    assert choice is not None
    assert "test data were not read" in describe_choice(choice)
    assert describe_choice(choice).splitlines()[1].startswith(choice["tried"][0]["selection"])
    assert card["config"]["selection"] == choice["chosen"]["selection"]
    assert card["codec"]["name"].partition(",labels")[0].partition(":labels")[0] == choice["chosen"]["codec"]
    assert len(choice["tried"]) > 5
    assert choice["students"]["trained"] <= choice["students"]["most"]
    assert {"codec", "selection", "balance", "labels", "per_class"} <= choice["tried"][0].keys()
    assert small.index is not None
    assert torch.equal(digits.train.labels[small.index], small.hard_labels)
    out = tmp_path / "real.safetensors"
    again = potstill.distill(digits, "real", bytes=900, network="convnet-d1-w4", progress=None, out=out)
    assert torch.equal(potstill.load(out).inputs, small.inputs)
    assert torch.equal(small.inputs, again.inputs)
    assert (again.choice or {})["tried"] == choice["tried"]


def test_a_named_selection_and_codec_are_not_searched(digits: Splits) -> None:
    small = potstill.distill(digits, Real(selection="herding"), bytes=900, codec="uint2", progress=None)
    assert small.choice is None
    assert small.metadata["bytes"]["total"] <= 900


def test_items_are_searched_for_their_selection_alone(digits: Splits) -> None:
    small = potstill.distill(digits, "real", ipc=2, codec="exact", network="convnet-d1-w4", progress=None)
    assert torch.bincount(small.hard_labels).tolist() == [2] * 10
    assert {row["codec"] for row in (small.choice or {})["tried"]} == {"exact"}


def test_a_teachers_labels_are_the_three_largest(digits: Splits) -> None:
    method = Real(selection="random", labels="top3", teacher_steps=2)
    small = potstill.distill(digits, method, ipc=1, codec="uint4:labels=4", network="convnet-d1-w4", progress=None)
    assert small.labels.shape == (10, 10)
    assert ((small.labels > 0).sum(1) <= 3).all()


def test_a_budget_below_one_sample_of_each_class_says_so(digits: Splits) -> None:
    with pytest.raises(potstill.PotstillError, match="one real sample of each class takes at least"):
        potstill.distill(digits, "real", bytes=20, network="convnet-d1-w4", progress=None)
