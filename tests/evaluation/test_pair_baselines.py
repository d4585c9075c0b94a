"""Prototypes as a rival of pairs: chosen as the method chooses them, and measured in the set's bytes."""

from typing import Any

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.data.selection_order import order_samples
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import charged_bytes
from potstill.evaluation.real_set_space import MAX_SELECTION_OPERATIONS, RealSetSpace
from potstill.functional.coreset import k_means
from potstill.functional.features import joint_rows
from potstill.testing.toy import pairs_source

QUICK: dict[str, Any] = {"seeds": 2, "steps": 20, "full": False, "robust_scores": False, "progress": None}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(train=pairs_source(vectors=True), test=pairs_source(20, vectors=True))


@pytest.mark.parametrize("vectors", [True, False])
def test_prototypes_are_the_pairs_nearest_to_joint_centres(vectors: bool) -> None:
    source = pairs_source(vectors=vectors)
    (order,) = order_samples(source, "prototypes", [8], 3)
    rows = joint_rows([source.fetch(torch.arange(40)).x], source.input)
    assert len(set(order.tolist())) == 8
    spread = float((rows - rows.mean(0)).square().sum(1).mean())
    chosen = float(torch.cdist(rows, rows[order]).min(1).values.square().mean())
    drawn = [
        float(torch.cdist(rows, rows[order_samples(source, "random", [8], s)[0]]).min(1).values.square().mean())
        for s in range(5)
    ]
    assert chosen < min(drawn) < spread
    assert torch.equal(order, order_samples(source, "prototypes", [8], 3)[0])
    assert sorted(order_samples(source, "prototypes", [100], 3)[0].tolist()) == list(range(40))
    centres, _ = k_means(rows, 8, torch.Generator().manual_seed(0), 10)
    assert chosen < 3 * float(torch.cdist(rows, centres).min(1).values.square().mean())


def test_data_of_one_part_have_no_prototypes() -> None:
    digits = potstill.load_data("digits").train
    with pytest.raises(PotstillError, match=r"selection prototypes takes pairs of several parts, but .* has one"):
        order_samples(digits, "prototypes", [3] * 10, 0)


def test_an_evaluation_of_pairs_measures_prototypes_in_the_same_bytes(splits: Splits) -> None:
    small = potstill.distill(splits, "random", items=8, codec="uint4", progress=None)
    card = potstill.evaluate(small, splits, **QUICK).to_dict()
    assert [name for name in card["baselines"] if name != "real"] == ["random", "prototypes", "random-items"]
    prototypes = card["baselines"]["prototypes"]
    assert prototypes["selection"] == "prototypes"
    assert prototypes["bytes"] <= charged_bytes(card["bytes"])
    assert {way["codec"] for way in prototypes["tried"]} <= {w["codec"] for w in card["baselines"]["random"]["tried"]}
    assert card["difference"]["prototypes"]["mean"] == pytest.approx(card["score"]["mean"] - prototypes["mean"])
    assert card["baselines"]["real"]["items"] > 0


def test_prototypes_are_not_tried_where_they_are_dear(splits: Splits) -> None:
    def tried(expected: int) -> tuple[str, ...]:
        return RealSetSpace.of(splits.train, 1000, expected=expected).selections

    assert tried(8) == ("random", "prototypes")
    each = 2 * 40 * splits.train.input.num_values * 14
    assert MAX_SELECTION_OPERATIONS / each > 40  # of so few pairs they never are
    many = pairs_source(20_000, vectors=True)
    assert RealSetSpace.of(many, 1000, expected=20_000).selections == ("random",)
