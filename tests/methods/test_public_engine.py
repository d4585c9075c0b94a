"""The public engine: the method in its docstring runs, and `fit` has the bits of `distill`."""

import textwrap
from typing import Any

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.methods import DC, DM, MTT, RFAD, engine
from potstill.methods.engine import build_problem
from potstill.testing import check_method, toy_source


def documented() -> tuple[Any, Any]:
    """Return the class and the loss in the docstring of `potstill.methods.engine`."""
    assert engine.__doc__ is not None
    lines = engine.__doc__.split("::\n", 1)[1].split("\n``", 1)[0]
    names: dict[str, Any] = {"__name__": __name__}
    exec(textwrap.dedent(lines), names)
    return names["MeanGap"], names["mean_gap"]


def test_the_documented_method_keeps_the_contract_and_lowers_its_loss() -> None:
    method, loss = documented()
    check_method(method(iterations=3))
    source = toy_source()
    few, many = (method(iterations=n).fit(source, ipc=2) for n in (1, 60))
    network, real = build_problem(method(), source, 2).network, (source.fetch(torch.arange(48)).x, source.labels)
    losses = [
        sum(float(loss(network(n), real, (r.payload["inputs"], r.labels)).detach()) for n in range(3))
        for r in (few, many)
    ]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("method", [
    DM(iterations=3, batch_real=6), DC(iterations=1, batch_real=6, outer=2, inner=1), RFAD(iterations=2, batch_real=12),
    MTT(iterations=2, num_experts=1, train_epochs=2, max_start_epoch=1, expert_epochs=1, student_steps=2),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["image", "table"])
def test_fit_has_the_bits_of_distill(method: Any, kind: str) -> None:
    source = toy_source(kind)
    small = potstill.distill(Splits(train=source, test=None), method, ipc=1, seed=3, codec="exact", progress=None)
    result = method.fit(source, ipc=1, seed=3)
    if result.space == "data":
        inputs = result.payload["inputs"]
    else:
        inputs = source.normalization.invert(result.payload["inputs"])
    assert torch.equal(small.inputs, inputs.float())
