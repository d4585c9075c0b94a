"""Steps that are run to know how long they take, in bounded time, and a rough estimate before that."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from potstill.core import Method, Problem, StepCost
from potstill.evaluation.candidate_trials import count_operations
from potstill.rng import generator

__all__ = ["LONGEST", "StepTiming", "estimate_step_seconds", "summarize_timing", "time_steps"]

SPEED = 5e10
"""Operations per second and core, for a rough estimate: 7e10 of DM on 28×28 pictures in a ConvNet of width 128."""
ENOUGH = 5.0
"""Seconds of steps that are run to know how long they take, where nobody says how many."""
MOST = 64
"""Maximum number of such steps."""
LONGEST = 20.0
"""Seconds that measuring may take where nobody says how many steps to run: no step is begun that would end later, and
none at all where a step is expected to take three times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTiming:
    """Steps that were run for the plan, after one that was not timed. Seconds of wall clock."""

    n: int
    median: float
    least: float
    most: float
    forecast: float | None
    """Their mean times the steps of the run; ``None`` where their number is not known. What costs something now and
    then only (real statistics that serve several steps) counts as often as it came."""


def estimate_step_seconds(problem: Problem, parts: Sequence[StepCost] | None) -> float | None:
    """Seconds of a step by counted operations, within a factor of a few; ``None`` on a GPU, and of a method that does
    not say what passes a network."""
    if parts is None or problem.train.device.type != "cpu":
        return None
    passed = sum(_passed(part) / part.every for part in parts)
    if passed == 0:  # a network is not asked, and inputs with names may have none
        return 0.0
    return passed * count_operations(problem.network, problem.train.input) / (SPEED * torch.get_num_threads())


def mean_step_share(parts: Sequence[StepCost] | None) -> float:
    """Operations of a step in the mean, as a part of those of the first, in which everything is read anew."""
    whole = sum(map(_passed, parts or ()))
    return sum(_passed(part) / part.every for part in parts or ()) / whole if whole else 1.0


def _passed(part: StepCost) -> int:
    """Samples that pass forwards, and backwards at twice the cost: all that are not real, of real ones about half."""
    return (2 if part.real else 3) * part.samples


def time_steps(
    name: str, method: Method[Any], problem: Problem, seed: int, *, max_steps: int | None, measure: int | None,
    rough: float | None, on_first_step: Callable[[float], None],
) -> tuple[tuple[float, ...], int]:  # fmt: skip
    """Seconds of each of some steps, the first included, and how many steps a reading of real samples serves.

    Args:
        max_steps: steps that the run will make at most.
        measure: how many to run besides the first; ``None``: as many as `ENOUGH` holds, within `LONGEST`.
        rough: seconds that a step is expected to take.
        on_first_step: called with what a step takes, by the first.
    """
    if measure is None and rough is not None and rough > 3 * LONGEST:
        return (), 1
    rng = generator(seed, "distill", name)
    state = method.init(problem, rng)
    parts = method.step_costs(problem, state)
    around = max((part.every for part in parts or ()), default=1)
    seconds: list[float] = []
    most = MOST if measure is None else measure + 1
    while len(seconds) < most and not method.done(problem, state) and (max_steps is None or len(seconds) < max_steps):
        begun = time.perf_counter()
        state, _metrics = method.step(problem, state, rng)
        if problem.train.device.type == "cuda":
            torch.cuda.synchronize(problem.train.device)
        seconds.append(time.perf_counter() - begun)
        if len(seconds) == 1:
            on_first_step(seconds[0] * mean_step_share(parts))
        if measure is None and _enough(seconds):
            break
    if len(seconds) == 1:  # the first alone: what it did besides others is left out
        seconds = [seconds[0] * mean_step_share(parts)]
    return tuple(seconds), around


def _enough(seconds: Sequence[float]) -> bool:
    """A first step that takes long by itself is followed by one more, where that ends within `LONGEST`."""
    lasting = sum(seconds[1:]) > ENOUGH or (len(seconds) > 1 and sum(seconds) > 2 * ENOUGH)
    return lasting or sum(seconds) + seconds[-1] > LONGEST


def mean_step_seconds(seconds: Sequence[float], around: int) -> float:
    """Return the mean seconds of a step, of some that were timed.

    The first is left out where it can be, as it warms up. Where a reading of real samples serves ``around`` steps, and
    the others are fewer than that, it stands for the dear one in each round: left out, it would be in none.
    """
    first, rest = seconds[0], seconds[1:]
    if not rest:
        return first
    if len(rest) >= around:
        return statistics.mean(rest)
    return (first + (around - 1) * statistics.mean(rest)) / around


def summarize_timing(seconds: Sequence[float], around: int, steps: int | None) -> StepTiming | None:
    """Return the forecast of all steps; ``None`` where none was timed."""
    if not seconds:
        return None
    warm = seconds[1:] or seconds
    return StepTiming(
        n=len(warm), median=statistics.median(warm), least=min(warm), most=max(warm),
        forecast=None if steps is None else mean_step_seconds(seconds, around) * steps,
    )  # fmt: skip
