"""Methods of the decoupled family as the toy problem's pictures settle them, and parts of their engines."""

from typing import Any, TypeVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, Problem
from potstill.methods.decoupled import TeacherNetwork
from potstill.methods.decoupled._state import IterationContext
from potstill.rng import generator
from potstill.testing import toy_problem

M = TypeVar("M", bound=Method[Any])


def at_toy(method: M) -> M:
    """With what it leaves to the data: the settings for four classes of 8×8 pictures."""
    return method.resolve_defaults(toy_problem())[0]


def started(method: Any, **options: Any) -> tuple[Problem, Any, Generator]:
    problem, rng = toy_problem(method, **options), generator(3)
    return problem, method.init(problem, rng), rng


def steps(method: Any, problem: Problem, state: Any, rng: Generator, count: int) -> list[Any]:
    """The first state, and the state and metrics after each step."""
    seen = [(state, {})]
    for _ in range(count):
        seen.append(method.step(problem, seen[-1][0], rng))
    return seen


def draws(state: Any, iteration: int) -> Generator:
    """What an iteration of the batch under way draws from."""
    return generator(state.seed, "recovery", state.batch, iteration)


def pixels(state: Any) -> Tensor:
    """Of all items, without the batch that is under way."""
    made: Tensor = state.payload["inputs"]
    return made


def work(state: Any) -> Tensor:
    """Of the batch under way."""
    made: Tensor = state.work["inputs"]
    return made


def members(method: Any, problem: Problem) -> tuple[TeacherNetwork, ...]:
    made: tuple[TeacherNetwork, ...] = method.teachers().load(problem)
    return made


def batches(method: Any, problem: Problem) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = method.build_engine(problem).batches(problem)
    return made


def voices(method: Any, problem: Problem, state: Any) -> list[Any]:
    """Number, teacher and weight of each that the next iteration asks."""
    items = batches(method, problem)[state.batch]
    turn = IterationContext(
        problem=problem, members=members(method, problem), state=state, items=items, y=torch.empty(0), rng=generator(0)
    )
    return [(v.number, v.member, v.weight) for v in method.build_engine(problem).teacher_schedule(turn)]


def view(method: Any, problem: Problem, state: Any, x: Tensor, rng: Generator) -> Tensor:
    """How the next iteration shows pictures."""
    made: Tensor = method.build_engine(problem).view(x, state.iteration, method.iterations, problem.train.input, rng)
    return made


def staged(method: Any, problem: Problem, state: Any, items: Tensor) -> Any:
    return method.build_engine(problem).start_stage(problem, members(method, problem), state, items)
