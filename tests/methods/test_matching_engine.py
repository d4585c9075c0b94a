"""The engine of matching by itself, with an objective of squares: leaves of every kind, and classes in turns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Network, Part, Problem
from potstill.functional.leaves import Rule, Rules, values
from potstill.methods._engine import Engineered
from potstill.methods._matching import Descent, Matching, MatchState, Networks, Objective, Seen, Sloped
from potstill.methods._networks import Ready
from potstill.rng import generator
from potstill.testing import check_method, toy_problem

WANTED = 0.25


@dataclass(frozen=True)
class Turn:
    """A block."""

    net: Network


@dataclass(frozen=True)
class Pull:
    """Inputs go to their class's number, rows to equal ones, the rate to `WANTED`: each by a square."""

    def begin(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {"steps": torch.tensor(0)}

    def block(self, problem: Problem, networks: Networks, state: MatchState, rng: Generator) -> tuple[MatchState, Turn]:
        return state, Turn(net=networks.embedder(problem, state, rng)[0])

    def descents(self, problem: Problem, state: MatchState, block: Turn) -> Iterator[Descent]:
        k = problem.num_classes
        yield Descent("pull", lambda classes, seen: self.pulled(problem, classes, seen), [[c] for c in range(k)], k)

    def pulled(self, problem: Problem, classes: list[int], seen: Seen) -> Sloped:
        x, y, rate = seen["inputs"], seen["labels"], seen["student/lr"]
        by_x = torch.zeros_like(x)
        for c, rows in enumerate(torch.arange(len(x)).split(list(problem.sizes))):
            if c in classes:
                by_x[rows] = 2 * (x[rows] - c)
        slopes = {"inputs": by_x, "labels": 2 * (y - y.mean(1, keepdim=True)), "student/lr": 2 * (rate - WANTED)}
        return float(by_x.square().sum() / 4), slopes

    def after(self, problem: Problem, state: MatchState, block: Turn) -> MatchState:
        return replace(state, memory={"steps": state.memory["steps"] + 1})

    def parts(self, problem: Problem, networks: Networks, state: MatchState) -> tuple[Part, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class Pulled(Engineered[MatchState]):
    """Pull inputs, labels and a rate at once."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Pulled", paper="none", year=2026, family="distribution", kinds=("*",), soft=True
    )
    state_type: ClassVar[type] = MatchState
    iterations: int = 3
    network: str = "convnet"
    parametrization: str = "pixels"

    def engine(self, problem: Problem) -> Matching:
        return Matching(
            objective=Pull(), networks=Ready(), rules=self.rules, iterations=self.iterations, steps=self.iterations,
            start="noise", labels="learned", beside={"student/lr": torch.tensor(0.01)},
        )  # fmt: skip

    def rules(self, state: MatchState, last: bool) -> Rules:
        return {
            "payload/": Rule(lr=0.1, within=(-1.0, 2.0) if last else None), "labels/": Rule(lr=2.0),
            "student/": Rule(lr=5.0, positive=True),
        }  # fmt: skip


def test_every_leaf_moves_by_its_rule_once_for_each_group_of_classes() -> None:
    assert isinstance(Pull(), Objective)
    problem = toy_problem()
    method = Pulled()
    state = method.init(problem, generator(0))
    before = values(state.leaves, method.rules(state, False))
    after, shown = method.step(problem, state, generator(1))
    x = before["payload/inputs"]
    wanted = torch.arange(4.0).repeat_interleave(2).reshape(-1, 1, 1, 1)
    assert shown == {"pull": pytest.approx(float((x - wanted).square().sum()) / 4, rel=1e-5)}
    # inputs are moved in the turn of their class alone, and all are put into the bounds at the last turn
    torch.testing.assert_close(after.leaves.held["payload/inputs"], (x - 0.2 * (x - wanted)).clamp(-1, 2))
    assert after.leaves.count == 4
    assert (after.iteration, int(after.memory["steps"])) == (1, 1)
    # the rate moves in all four turns, by its logarithm
    rate = torch.tensor(0.01)
    for _ in range(4):
        rate = (rate.log() - 5.0 * 2 * (rate - WANTED) * rate).exp()
    torch.testing.assert_close(values(after.leaves, method.rules(after, False))["student/lr"], rate)
    # rows through their softmax, by autograd
    logits = before["labels/logits"].clone().requires_grad_()
    for _ in range(4):
        rows = logits.softmax(1)
        (slope,) = torch.autograd.grad(rows, logits, 2 * (rows - rows.mean(1, keepdim=True)).detach())
        logits = (logits - 2.0 * slope).detach().requires_grad_()
    torch.testing.assert_close(after.leaves.held["labels/logits"], logits.detach())


def test_what_is_neither_inputs_nor_labels_is_learned() -> None:
    problem, method = toy_problem(), Pulled(iterations=60)
    state, rng = method.init(problem, generator(0)), generator(1)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    result = method.result(problem, state)
    assert result.payload.keys() == {"inputs"}
    assert result.learned.keys() == {"student/lr"}
    assert abs(float(result.learned["student/lr"]) - WANTED) < 1e-3
    assert method.horizon(problem) == int(state.memory["steps"]) == 60


def test_a_method_of_the_engine_keeps_the_contract() -> None:
    check_method(Pulled())
