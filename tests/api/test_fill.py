"""Budgets in bytes are filled by what values are coded in: `potstill.runs.fill`."""

import os
import signal
from typing import Any

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.dataset_file.checkpoint import read_identity
from potstill.errors import PotstillError
from potstill.runs import fill
from potstill.runs.loop import Interrupted
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunLimits, RunSpec

COSINES: dict[str, Any] = {
    "parametrization": "shared-frequency:positions=8", "codec": "step:width=1.5", "network": "convnet-d1-w8",
    "device": "cpu", "executor": "serial", "progress": None, "batch_real": 8,
}  # fmt: skip
PIXELS: dict[str, Any] = {
    "network": "convnet-d1-w8", "device": "cpu", "executor": "serial", "progress": None, "batch_real": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Splits:
    return potstill.load_data("digits")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "PLAN_STEPS", 2)
    monkeypatch.setattr(fill, "_LEAST_STEPS", 4)


@pytest.mark.parametrize("options", [COSINES, PIXELS], ids=["coefficients", "pixels"])
def test_a_filled_set_has_more_inputs_and_no_more_bytes(digits: Splits, options: dict[str, Any]) -> None:
    packed = potstill.distill(digits, "dm", bytes=1500, steps=4, planned_bytes=1500, **options)
    filled = potstill.distill(digits, "dm", bytes=1500, steps=4, **options)
    assert len(filled) > len(packed)
    sizes = [small.metadata["bytes"]["total"] for small in (packed, filled)]
    assert sizes[0] < sizes[1] <= 1500
    assert sizes[1] > 0.85 * 1500
    assert filled.metadata["planned_bytes"] > 1500


def test_the_plan_makes_the_same_bits_again(digits: Splits) -> None:
    filled = potstill.distill(digits, "dm", bytes=1500, steps=4, **COSINES)
    planned = filled.metadata["planned_bytes"]
    again = potstill.distill(digits, "dm", bytes=1500, steps=4, planned_bytes=planned, **COSINES)
    assert again.inputs.equal(filled.inputs)
    assert again.metadata["run_digest"] == filled.metadata["run_digest"]


def test_a_run_that_resumes_keeps_its_plan(
    digits: Splits, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    checkpoint = tmp_path / "run.checkpoint"

    def stop(progress: potstill.Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    options = {**COSINES, "progress": stop}
    with pytest.raises(Interrupted):
        potstill.distill(digits, "dm", bytes=1500, steps=4, checkpoint=checkpoint, **options)
    planned = read_identity(checkpoint)[0]["planned_bytes"]
    # another machine may code otherwise: the plan of the checkpoint counts
    monkeypatch.setattr(fill, "find_planned_bytes", lambda *_: pytest.fail("a plan was made again"))
    resumed = potstill.distill(digits, "dm", bytes=1500, steps=4, checkpoint=checkpoint, resume=True, **COSINES)
    assert resumed.metadata["planned_bytes"] == planned


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"codec": "float32"}, "values are not coded"),
        ({"codec": "uint1"}, "rounded while it is made: nothing can be made smaller at the end"),
        ({"method": "herding"}, "a selection counts by coding"),
        ({"steps": 3}, "short ones would be as long"),
        ({"class_shards": 2}, "groups plan on their own"),
        ({"bytes": 1 << 23}, "too large to try"),
    ],
)
def test_what_is_not_filled(digits: Splits, change: dict[str, Any], why: str) -> None:
    steps = change.pop("steps", 4)
    spec = {"method": "dm", "bytes": 4000, "device": "cpu", "network": "convnet-d1-w8", **change}
    method = spec.pop("method")
    run = resolve_run(RunSpec(digits, method, **spec), RunLimits(steps=steps))
    assert not fill.can_fill(run, RunLimits(steps=steps)), why


def test_more_bytes_than_the_budget_are_stored_coarser(digits: Splits) -> None:
    large = potstill.distill(digits, "dm", bytes=1500, steps=4, planned_bytes=6000, **COSINES)
    assert large.metadata["bytes"]["total"] <= 1500
    assert float(large.metadata["codec"]["name"].split("width=")[1].split(",")[0]) > 1.5
    tiles = {**PIXELS, "parametrization": "tiles", "codec": "uint8"}
    coarse = potstill.distill(digits, "dm", bytes=1500, steps=4, planned_bytes=2600, **tiles)
    assert coarse.metadata["bytes"]["total"] <= 1500
    assert coarse.metadata["codec"]["name"] in ("uint7", "uint6", "uint5", "uint4")


@pytest.mark.parametrize("wrong", [{"planned_bytes": 0, "bytes": 100}, {"planned_bytes": 100, "ipc": 1}])
def test_a_plan_without_a_budget_in_bytes_is_refused(digits: Splits, wrong: dict[str, Any]) -> None:
    with pytest.raises(PotstillError, match="planned_bytes must be at least 1 and go with a budget in bytes"):
        potstill.distill(digits, "dm", progress=None, **wrong)


def test_a_plan_says_that_more_inputs_may_fit(digits: Splits) -> None:
    few = {name: value for name, value in COSINES.items() if name not in ("executor", "progress")}
    notes = potstill.plan(digits, "dm", bytes=1500, profile_steps=0, progress=None, **few).notes
    assert any("inputs are counted as packed" in note for note in notes)
    notes = potstill.plan(digits, "dm", ipc=1, profile_steps=0, progress=None, network="mlp", device="cpu").notes
    assert not any("packed" in note for note in notes)


@pytest.fixture(scope="module")
def uneven_columns() -> Splits:
    """Rows of fifty columns, mostly zeros, with a few large values: a range for each column takes many more bytes than
    one range for all."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(900, 50, generator=draw)
    x = torch.where(x < 0.8, torch.zeros(()), 20 * (x - 0.8))
    x[torch.arange(900), torch.randint(50, (900,), generator=draw)] *= 30
    loaded = potstill.load_data((x.numpy(), (x[:, :25].sum(1) > x[:, 25:].sum(1)).long().numpy()))
    return Splits(train=loaded.train, test=None)


ROWS: dict[str, Any] = {**PIXELS, "network": "mlp", "steps": 4}


def test_bytes_are_filled_where_a_codec_takes_another_form_for_more_inputs(uneven_columns: Splits) -> None:
    """From 160 inputs on every column has a range of its own, for three times the bytes: two short runs, one on each
    side, left 62 % of the budget."""
    filled = potstill.distill(uneven_columns, "dm", bytes=700, **ROWS)
    assert filled.metadata["bytes"]["total"] > 0.7 * 700
    assert len(filled) > 140


def test_a_set_that_is_too_large_keeps_as_many_inputs_as_fit(uneven_columns: Splits) -> None:
    """It lost inputs in proportion to its bytes, which fell by more than that: 65 of 163 were left."""
    cut = potstill.distill(uneven_columns, "dm", bytes=1000, planned_bytes=2500, **ROWS)
    assert 150 < len(cut) < 160
    assert cut.metadata["bytes"]["total"] <= 1000
    exact = potstill.distill(uneven_columns, "dm", bytes=400, planned_bytes=2500, **ROWS)
    assert 0.8 * 400 < exact.metadata["bytes"]["total"] <= 400
