"""The engine of matching by itself, with an objective of squares: leaves of every kind, and classes in turns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from potstill.core import Inputs, MethodInfo, Network, Problem, StepCost
from potstill.errors import PotstillError
from potstill.functional.param_groups import ParamGroup, ParamGroups, param_values
from potstill.methods.engine import (
    EngineMethod,
    FixedNetworks,
    InitStrategy,
    LossAndGrads,
    MatchingEngine,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    Update,
)
from potstill.rng import generator
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import windows_source

WANTED = 0.25


@dataclass(frozen=True)
class Turn:
    """A block."""

    net: Network


@dataclass(frozen=True)
class Pull:
    """Inputs go to their class's number, rows to equal ones, the rate to `WANTED`: each by a square."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {"steps": torch.tensor(0)}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Turn]:
        return state, Turn(net=networks.draw_networks(problem, state, rng)[0])

    def updates(self, problem: Problem, state: MatchingState, block: Turn) -> Iterator[Update]:
        k = problem.num_classes
        yield Update("pull", lambda classes, seen: self.pulled(problem, classes, seen), [[c] for c in range(k)], k)

    def pulled(self, problem: Problem, classes: list[int], seen: ObjectiveInputs) -> LossAndGrads:
        x, y, rate = seen["inputs"], seen["labels"], seen["student/lr"]
        by_x = torch.zeros_like(x)
        for c, rows in enumerate(torch.arange(len(x)).split(list(problem.sizes))):
            if c in classes:
                by_x[rows] = 2 * (x[rows] - c)
        slopes = {"inputs": by_x, "labels": 2 * (y - y.mean(1, keepdim=True)), "student/lr": 2 * (rate - WANTED)}
        return float(by_x.square().sum() / 4), slopes

    def finish_step(self, problem: Problem, state: MatchingState, block: Turn) -> MatchingState:
        return replace(state, memory={"steps": state.memory["steps"] + 1})

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class Pulled(EngineMethod[MatchingState]):
    """Pull inputs, labels and a rate at once."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Pulled", paper="none", year=2026, family="distribution", kinds=("*",), soft_labels=True
    )
    state_type: ClassVar[type] = MatchingState
    iterations: int = 3
    network: str = "convnet"
    parametrization: str = "pixels"

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return MatchingEngine(
            objective=Pull(), networks=FixedNetworks(), param_groups=self.rules, iterations=self.iterations,
            steps=self.iterations,
            initial="noise", labels="learned", extra_parameters={"student/lr": torch.tensor(0.01)},
        )  # fmt: skip

    def rules(self, state: MatchingState, last: bool) -> ParamGroups:
        return {
            "payload/": ParamGroup(lr=0.1, bounds=(-1.0, 2.0) if last else None), "labels/": ParamGroup(lr=2.0),
            "student/": ParamGroup(lr=5.0, log_scale=True),
        }  # fmt: skip


def test_every_leaf_moves_by_its_rule_once_for_each_group_of_classes() -> None:
    assert isinstance(Pull(), Objective)
    problem = toy_problem()
    method = Pulled()
    state = method.init(problem, generator(0))
    before = param_values(state.params, method.rules(state, False))
    after, shown = method.step(problem, state, generator(1))
    x = before["payload/inputs"]
    wanted = torch.arange(4.0).repeat_interleave(2).reshape(-1, 1, 1, 1)
    assert shown == {"pull": pytest.approx(float((x - wanted).square().sum()) / 4, rel=1e-5)}
    # inputs are moved in the turn of their class alone, and all are put into the bounds at the last turn
    torch.testing.assert_close(after.params.value["payload/inputs"], (x - 0.2 * (x - wanted)).clamp(-1, 2))
    assert after.params.num_steps == 4
    assert (after.iteration, int(after.memory["steps"])) == (1, 1)
    # the rate moves in all four turns, by its logarithm
    rate = torch.tensor(0.01)
    for _ in range(4):
        rate = (rate.log() - 5.0 * 2 * (rate - WANTED) * rate).exp()
    torch.testing.assert_close(param_values(after.params, method.rules(after, False))["student/lr"], rate)
    # rows through their softmax, by autograd
    logits = before["labels/logits"].clone().requires_grad_()
    for _ in range(4):
        rows = logits.softmax(1)
        (slope,) = torch.autograd.grad(rows, logits, 2 * (rows - rows.mean(1, keepdim=True)).detach())
        logits = (logits - 2.0 * slope).detach().requires_grad_()
    torch.testing.assert_close(after.params.value["labels/logits"], logits.detach())


def test_what_is_neither_inputs_nor_labels_is_learned() -> None:
    problem, method = toy_problem(), Pulled(iterations=60)
    state, rng = method.init(problem, generator(0)), generator(1)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    result = method.result(problem, state)
    assert result.payload.keys() == {"inputs"}
    assert result.extra_parameters.keys() == {"student/lr"}
    assert abs(float(result.extra_parameters["student/lr"]) - WANTED) < 1e-3
    assert method.num_steps(problem) == int(state.memory["steps"]) == 60


def test_a_method_of_the_engine_keeps_the_contract() -> None:
    check_method(Pulled())


@dataclass(frozen=True)
class Nothing(Pull):
    """The same squares, with no gradient from the second step on: as an objective that skips a step."""

    def pulled(self, problem: Problem, classes: list[int], seen: ObjectiveInputs) -> LossAndGrads:
        loss, slopes = super().pulled(problem, classes, seen)
        return (loss, {}) if classes == [2] else (loss, slopes)


def moved(engine: MatchingEngine, problem: Problem, steps: int) -> list[MatchingState]:
    states, rng = [engine.init(problem, generator(0))], generator(1)
    for _ in range(steps):
        states.append(engine.step(problem, states[-1], rng)[0])
    return states


def engine(**other: object) -> MatchingEngine:
    return replace(Pulled().build_engine(toy_problem()), **other)  # type: ignore[arg-type]


def test_an_objective_that_gives_no_gradient_makes_no_move() -> None:
    problem = toy_problem()
    rules = {"": ParamGroup(lr=0.1, momentum=0.9, weight_decay=0.1)}
    some = engine(objective=Nothing(), param_groups=lambda state, last: rules)
    begun, after = moved(some, problem, 1)
    # three of four turns moved; in the third nothing did, neither by momentum nor by decay
    assert after.params.num_steps == 3
    full = moved(replace(some, objective=Pull()), problem, 1)[1]
    assert full.params.num_steps == 4
    assert not torch.equal(full.params.value["payload/inputs"], after.params.value["payload/inputs"])
    assert set(begun.params.value) == set(after.params.value)


def test_the_result_may_be_a_moving_average() -> None:
    problem = toy_problem()
    plain, mean = engine(), engine(ema_decay=0.75)
    states, others = moved(plain, problem, 3), moved(mean, problem, 3)
    assert states[3].params.value.keys() == others[3].params.value.keys()
    for name, value in states[3].params.value.items():  # what moves is not touched by it
        assert torch.equal(value, others[3].params.value[name])
    kept = states[0].params.value
    for state in states[1:]:
        kept = {n: 0.75 * kept[n] + 0.25 * state.params.value[n] for n in kept}
    result, last = mean.result(problem, others[3]), plain.result(problem, states[3])
    torch.testing.assert_close(result.payload["inputs"], kept["payload/inputs"])
    torch.testing.assert_close(result.labels, kept["labels/logits"].softmax(1))
    assert not torch.allclose(result.payload["inputs"], last.payload["inputs"])
    # what is learned beside them is the last, and the objective's own memory goes on
    assert torch.equal(result.extra_parameters["student/lr"], last.extra_parameters["student/lr"])
    assert int(others[3].memory["steps"]) == 3
    assert torch.equal(mean.result(problem, others[0]).payload["inputs"], others[0].params.value["payload/inputs"])


def test_labels_may_be_real_values_that_are_shown_as_they_are() -> None:
    problem, some = toy_problem(), engine(labels="scores")
    begun, after = moved(some, problem, 1)
    rows = torch.eye(4).repeat_interleave(2, 0) - 0.25
    assert torch.equal(begun.params.value["labels/scores"], rows)
    for _ in range(4):
        rows = rows - 2.0 * 2 * (rows - rows.mean(1, keepdim=True))
    torch.testing.assert_close(after.params.value["labels/scores"], rows)
    result = some.result(problem, after)
    assert result.centred_labels
    assert torch.equal(result.labels, after.params.value["labels/scores"])
    assert result.extra_parameters.keys() == {"student/lr"}
    assert not engine().result(problem, moved(engine(), problem, 0)[0]).centred_labels


def test_real_targets_may_move_as_well() -> None:
    problem = toy_problem(source=windows_source(), network="mlp-w8", ipc=4)
    some = engine(labels="scores", initial="real")
    begun, after = moved(some, problem, 1)
    assert begun.params.value["labels/scores"].shape == (4, 6)
    fixed = moved(replace(some, labels="hard"), problem, 0)[0].params.value["labels/targets"]
    assert torch.equal(begun.params.value["labels/scores"], fixed)
    result = some.result(problem, after)
    assert not result.centred_labels  # they are targets in their own units
    assert torch.equal(result.labels, after.params.value["labels/scores"])
    assert not torch.equal(result.labels, fixed)


@dataclass(frozen=True)
class Last:
    """The last samples of each class, and logits that depend on what they are."""

    def select_samples(self, problem: Problem, wanted: tuple[int, ...], rng: Generator) -> tuple[Tensor, ...]:
        return tuple(own[-n:] for own, n in zip(problem.class_indices, wanted, strict=True))

    def initial_logits(self, problem: Problem, x: Inputs) -> Tensor:
        assert isinstance(x, Tensor)
        return x.flatten(1)[:, : problem.num_classes]


def test_a_start_may_choose_samples_and_first_logits() -> None:
    problem = toy_problem()
    index = torch.cat([own[-2:] for own in problem.class_indices])
    assert isinstance(Last(), InitStrategy)
    for space in ("model", "data"):
        (state,) = moved(engine(initial=Last(), space=space), problem, 0)
        shown = problem.train.fetch(index).x if space == "model" else problem.train.raw(index)
        assert torch.equal(state.params.value["payload/inputs"], shown)
        # they are those of what networks see, whatever is stored
        wanted = Last().initial_logits(problem, problem.train.fetch(index).x)
        torch.testing.assert_close(state.params.value["labels/logits"], wanted)
    given = replace(problem, initial=problem.train.raw(index.flip(0)))
    (state,) = moved(engine(initial=Last()), given, 0)
    torch.testing.assert_close(
        state.params.value["labels/logits"], Last().initial_logits(given, problem.train.fetch(index.flip(0)).x)
    )
    (hard,) = moved(engine(initial=Last(), labels="hard"), problem, 0)
    assert "labels/logits" not in hard.params.value


def test_a_class_with_fewer_samples_than_its_budget_is_refused_before_a_start_chooses() -> None:
    with pytest.raises(PotstillError, match="12"):
        engine(initial=Last()).init(toy_problem(ipc=13), generator(0))
