"""A budget in bytes buys what the parametrization makes of it, and never more than it says."""

from pathlib import Path

import pandas as pd
import pytest

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.methods.distribution.dm import DM
from potstill.testing import toy_source

DATA = Splits(train=toy_source("image", side=16, per_class=80), test=None)
QUICK = {"steps": 1, "network": "convnet-d1-w4", "batch_real": 6}


@pytest.mark.parametrize("labels", ["hard", "learned"])
@pytest.mark.parametrize(
    "spelled", ["pixels", "tiles", "tiles:factor=4", "frequency:kept=16", "memory", "field:warmup=2"]
)
def test_bytes_are_used_and_not_exceeded(spelled: str, labels: str) -> None:
    amount = 2_345
    small = potstill.distill(DATA, "dm", bytes=amount, parametrization=spelled, labels=labels, **QUICK)
    kept = small.metadata["bytes"]
    assert kept["total"] == kept["inputs"] + kept["labels"] + kept["decoder"] <= amount
    assert kept["total"] > 0.5 * amount  # planned by the codes before they are coded


def test_a_small_budget_still_holds_what_is_small() -> None:
    amount = 4 * 16 * 16 // 2 - 60  # less than one picture of each class in 4 bits
    small = potstill.distill(DATA, "dm", bytes=amount, parametrization="frequency:kept=16", **QUICK)
    assert len(small) >= 4
    assert small.metadata["bytes"]["total"] <= amount
    with pytest.raises(PotstillError, match="must hold at least one input of each of 4 classes, which takes"):
        potstill.distill(DATA, "dm", bytes=amount, **QUICK)
    with pytest.raises(PotstillError, match="must keep at least one item"):
        potstill.distill(DATA, "random", bytes=amount)


def test_real_samples_whose_values_are_larger_than_the_budget_are_counted_as_coded() -> None:
    """A user is a row of 600 bits, so 75 bytes, and less than 15 as a coded stream."""
    frame = pd.DataFrame({"user": [n // 6 for n in range(600)], "item": [37 * n % 600 for n in range(600)]})
    small = potstill.distill(potstill.load_data(frame, kind="ratings"), "random", bytes=70)
    assert len(small) >= 3
    assert 40 < small.metadata["bytes"]["total"] <= 70
    with pytest.raises(PotstillError, match="must keep at least one item, but 3 bytes keep 0 in all"):
        potstill.distill(potstill.load_data(frame, kind="ratings"), "random", bytes=3)


def test_the_bytes_that_a_refused_budget_should_have_are_enough() -> None:
    with pytest.raises(PotstillError, match=r"but it is 20 bytes; raise it, or store fewer bits$") as refused:
        potstill.distill(DATA, "dm", bytes=20, **QUICK)
    words = str(refused.value)
    least = int(words.split("takes ")[1].split(" bytes")[0].replace(",", ""))
    assert len(potstill.distill(DATA, "dm", bytes=least, **QUICK)) == 4
    with pytest.raises(PotstillError, match=f"but it is {least - 1:,} bytes"):
        potstill.distill(DATA, "dm", bytes=least - 1, **QUICK)


def test_equal_bytes_for_methods_that_decode_and_for_real_samples() -> None:
    method = DM(parametrization="tiles", batch_real=6)
    tiled = potstill.distill(DATA, method, ipc=2, steps=1, network="convnet-d1-w4", codec="float32")
    assert len(tiled) == 4 * 2 * 4
    real = potstill.distill(DATA, "random", ipc=2, codec="float32")
    assert tiled.metadata["bytes"]["inputs"] == real.metadata["bytes"]["inputs"]


def test_a_run_is_not_resumed_with_another_budget_of_equal_counts(tmp_path: Path) -> None:
    """Both budgets hold two pictures of each class as they are, and different numbers of decoded ones."""
    checkpoint = tmp_path / "run.checkpoint"

    def go(amount: int, *, resume: bool) -> potstill.Distilled:
        return potstill.distill(
            DATA, "dm", bytes=amount, parametrization="frequency:kept=16",
            checkpoint=checkpoint, checkpoint_every=0.0, resume=resume, **QUICK,
        )  # fmt: skip

    first = go(1_400, resume=False)
    assert len(go(1_400, resume=True)) == len(first)
    with pytest.raises(PotstillError, match=r"another configuration: numbers was \[.*\] and now is \["):
        go(1_450, resume=True)
