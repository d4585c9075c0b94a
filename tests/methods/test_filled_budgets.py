"""A budget in bytes is filled by made sets, whose values are entropy-coded, and never passed."""

import pytest
import torch

import potstill
from potstill.runs import budget


@pytest.fixture(scope="module")
def digits():
    return potstill.load_data("digits").train


@pytest.mark.parametrize("codec", ["uint2", "uint4"])
@pytest.mark.parametrize("method", ["dm", "frepo"])
def test_more_inputs_than_fit_packed_are_made_and_the_set_fits(digits, method, codec, monkeypatch):
    def made():
        return potstill.distill(
            digits, method, bytes=2000, codec=codec, iterations=3, batch_real=16, network="convnet-d1-w4", seed=0
        )

    small = made()
    assert small.metadata["bytes"]["total"] <= 2000
    if method == "dm":
        assert small.metadata["ipc"] == int(torch.bincount(small.labels).max())
    monkeypatch.setattr(budget, "estimate_coded_share", lambda *_: 1.0)
    packed = made()
    assert len(small) > 1.15 * len(packed)
    assert small.metadata["bytes"]["total"] > packed.metadata["bytes"]["total"]


def test_what_takes_more_than_was_planned_is_left_out_evenly_by_class(digits, monkeypatch):
    monkeypatch.setattr(budget, "estimate_coded_share", lambda *_: 0.25)
    small = potstill.distill(
        digits, "dm", bytes=2000, codec="uint4", iterations=2, batch_real=16, network="convnet-d1-w4", seed=0,
    )  # fmt: skip
    counts = torch.bincount(small.labels)
    assert 1800 < small.metadata["bytes"]["total"] <= 2000
    assert int(counts.max() - counts.min()) <= 1


def test_a_plan_of_bytes_has_no_more(digits):
    run = potstill.plan(digits, "dm", bytes=2000, codec="uint4", profile_steps=0)
    assert 1500 < run.bytes["inputs"] + run.bytes["labels"] <= 2000


@pytest.mark.parametrize("codec", ["uint1", "uint4:aware=True", "uint4:rate=0.01", "step:width=0.1,bits=1,aware=False"])
def test_what_cannot_be_shortened_or_is_made_coarser_has_no_more_than_its_bytes(digits, codec, monkeypatch):
    """Inputs that are rounded while they are made are planned packed; a codec with steps is made coarser instead."""
    monkeypatch.setattr(budget, "estimate_coded_share", lambda *_: 0.25)
    small = potstill.distill(
        digits, "dm", bytes=1500, codec=codec, iterations=2, batch_real=16, network="convnet-d1-w4", seed=0
    )
    assert small.metadata["bytes"]["total"] <= 1500
    planned = potstill.plan(
        digits, "dm", bytes=1500, codec=codec, batch_real=16, network="convnet-d1-w4", profile_steps=0
    )
    assert len(small) == planned.inputs
