"""Unrolled training in one graph where memory holds it: chosen once, said, and nothing that a run finds out anew."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.functional.unroll import InnerOptimizer, init_student, start_trace, train_student, unrolled_grads
from potstill.methods.engine import choose_mode_by_memory, unrolling
from potstill.methods.engine.unrolling import PROBE_SIZES, measure_graph_bytes
from potstill.methods.performance.dd import DD
from potstill.methods.performance.rat_bptt import RaTBPTT
from potstill.methods.performance.remember import Remember
from potstill.methods.trajectory.mtt import MTT
from potstill.testing import toy_problem, toy_source

METHODS = (
    MTT(student_steps=5, num_experts=1, train_epochs=22), RaTBPTT(window=4, total=6, batch_per_class=2), DD(),
    Remember(inner_steps=7, batch_per_class=1),
)  # fmt: skip
SEEN = {"MTT": (8, 5), "RaTBPTT": (8, 4), "DD": (4, 6), "Remember": (4, 7)}
"""Samples of a step and steps, of two items in each of four classes."""


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_the_mode_by_memory_is_settled_once_and_said(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = toy_problem(method)
    samples, steps = SEEN[type(method).__name__]
    needed = steps * measure_graph_bytes(problem, samples)
    enough = unrolling.MEMORY_DIVISOR * needed
    for have, mode in ((enough, "full"), (enough - 1, "replay")):
        monkeypatch.setattr(unrolling, "machine_memory", lambda have=have: have)
        made, said = replace(method, mode="by-memory").resolve_defaults(problem)
        assert made.mode == mode
        assert said[-1].startswith(f"mode {mode}: one graph of {steps} steps takes about ")
        assert made.resolve_defaults(problem) == (made, ())
        assert made.build_engine(problem).objective.mode == mode
    with pytest.raises(PotstillError, match="mode by-memory is chosen once for a run"):
        dataclasses.replace(made, mode="by-memory").build_engine(problem)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_the_usual_mode_asks_nothing_of_the_machine(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> int:
        raise AssertionError("the memory of the machine")

    monkeypatch.setattr(unrolling, "machine_memory", asked)
    problem = toy_problem(method)
    made, said = method.resolve_defaults(problem)
    assert (made.mode, said) == ("auto", ())
    assert made.build_engine(problem).objective.mode is None


def test_the_bytes_of_a_graph_are_those_of_its_saved_tensors_and_grow_along_a_line() -> None:
    problem = toy_problem(source=toy_source(per_class=20))
    few, many = measure_graph_bytes(problem, PROBE_SIZES[0]), measure_graph_bytes(problem, PROBE_SIZES[1])
    assert 0 < few < many
    assert measure_graph_bytes(problem, 3 * PROBE_SIZES[1]) == pytest.approx(
        few + (many - few) / 8 * (3 * PROBE_SIZES[1] - PROBE_SIZES[0])
    )
    assert measure_graph_bytes(problem, 40) == pytest.approx(unrolling._saved_bytes(problem, 40), rel=0.1)
    assert choose_mode_by_memory(problem, 8, 1)[0] == "full"


def test_the_card_says_which_mode_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = Splits(train=toy_source(), test=None), []
    for have in (2**40, 1):
        monkeypatch.setattr(unrolling, "machine_memory", lambda have=have: have)
        method = RaTBPTT(
            iterations=2, window=2, total=3, batch_real=8, batch_per_class=1, augment="none", mode="by-memory"
        )  # fmt: skip
        made.append(potstill.distill(data, method, ipc=1, network="convnet-d1-w8", progress=None))
    assert [m.metadata["config"]["mode"] for m in made] == ["full", "replay"]


def test_both_modes_give_the_same_gradient_in_float64() -> None:
    """What differs between machines under ``by-memory`` is rounding: here 1e-13 of the largest number."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 5, generator=g, dtype=torch.float64), torch.randn(6, 3, generator=g, dtype=torch.float64)
    theta = {"w": torch.randn(5, 3, generator=g, dtype=torch.float64)}

    def loss(t: Any, seen: Any, step: int) -> torch.Tensor:
        return (seen["x"].tanh() @ t["w"] - y).pow(4).mean()

    def outer(t: Any) -> torch.Tensor:
        return t["w"].square().sum()

    first = init_student(theta, InnerOptimizer(optimizer="adam"))
    whole = unrolled_grads(
        loss, start_trace(first, range(4)), {"x": x}, 0.05, InnerOptimizer(optimizer="adam"), outer, "full"
    )
    trail = train_student(loss, first, {"x": x}, 0.05, InnerOptimizer(optimizer="adam"), range(4))
    again = unrolled_grads(loss, trail, {"x": x}, 0.05, InnerOptimizer(optimizer="adam"), outer, "replay")
    torch.testing.assert_close(whole.leaves["x"], again.leaves["x"], rtol=1e-12, atol=1e-14)
