"""Fill a size budget: short runs say how well the values of a set will be coded, and so how many inputs fit.

A budget is planned as if values were packed (`potstill.runs.budget`); their coded stream is smaller. A short run of the
planned size, written without a limit, says by how much, and the budget is planned by more bytes. The steps that follow
make values a little harder to code (`_ROOM`). A set that is too large at its end is stored coarser, or loses its last
inputs.
"""

import dataclasses
import math
from collections.abc import Callable

from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.codecs import Exact, Float, Uniform
from potstill.codecs.size_estimate import PlannedBits
from potstill.dataset_file.checkpoint import read_identity
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.pretraining import required_assets
from potstill.runs.budget import MOST_FILLED, can_lose_inputs, is_stored_as_is
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.runner import execute
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["PLAN_STEPS", "SHORT_TIME", "can_fill", "fill_bytes", "find_planned_bytes", "resolve_for_plan"]

PLAN_STEPS = 12
"""Steps of a short run."""
_LEAST_STEPS = 100
"""Steps of a run below which short ones would be a large part of it."""
_TRIES = 2
"""Short runs at most."""
_JUMP, _MORE_TRIES = 1.5, 2
"""Ratio of what a too small and a too large set say would fill the bytes, from which they are not in proportion to
inputs, and further short runs then."""
_FILLED = 0.05
"""Part of the aim by which a short run's set may miss it."""
_ROOM = {"by inputs": 0.88, "finely": 0.96, "by a bit": 0.85}
"""Part of the budget that a short run's set should have, by how a set that is too large at the end is made smaller."""
_MOST = 16
"""Times the budget that is planned by, at most."""
_HALVINGS = 6
"""Plans that are tried to find the one of so many inputs."""
SHORT_TIME = 0.1
"""Part of the rest of a time limit that a short run may take."""


def fill_bytes(
    spec: RunSpec, run: ResolvedRun, limits: RunLimits, io: RunIO, reporter: ProgressReporter
) -> ResolvedRun:  # fmt: skip
    """Return the run with as many inputs as fill its budget in bytes, where short runs can tell; else as it is.

    A run that resumes keeps the plan of its checkpoint.
    """
    checkpoint = io.checkpoint_path
    if spec.planned_bytes is not None or run.max_bytes is None:
        return run
    if io.resume and checkpoint is not None and checkpoint.is_file():
        planned = read_identity(checkpoint)[0].get("planned_bytes")
    elif can_fill(run, limits):
        reporter.begin("planning the bytes")
        planned = find_planned_bytes(run, lambda planned: _planned_by(spec, limits, planned), io, limits)
    else:
        planned = None
    if planned is None or planned == run.max_bytes:
        return run
    filled = _planned_by(spec, limits, planned)
    inputs, before = sum(filled.problem.sizes), sum(run.problem.sizes)
    note = f"{inputs:,} inputs, by short runs: packed, {before:,} would fill the bytes, but their values are coded"
    return dataclasses.replace(filled, adjustments=(*filled.adjustments, note))


def resolve_for_plan(spec: RunSpec, limits: RunLimits) -> ResolvedRun:
    """Return the run as packed values count, with a note where `fill_bytes` would find more inputs."""
    run = resolve_run(spec, limits)
    if spec.planned_bytes is not None or not can_fill(run, limits):
        return run
    note = "inputs are counted as packed; distill first makes short runs, which say how many fill the bytes once coded"
    return dataclasses.replace(run, adjustments=(*run.adjustments, note))


def _planned_by(spec: RunSpec, limits: RunLimits, planned: int) -> ResolvedRun:
    return resolve_run(dataclasses.replace(spec, planned_bytes=planned), limits)


def can_fill(run: ResolvedRun, limits: RunLimits) -> bool:
    """Return whether short runs can say how many inputs fill the bytes: the run is longer and needs no trained
    networks, or it samples a model; and what is too large at its end can be made smaller."""
    if run.max_bytes is None or run.max_bytes > MOST_FILLED or run.method.info.is_selection or not _repair(run):
        return False
    if run.problem.target_decoder is not None:
        return False  # points are counted as packed, and few are the rule
    if run.class_shards is not None or run.scores is not None or run.provided_assets or run.initial is not None:
        return False
    if run.method.info.family == "generative":
        return limits.steps != 0  # sampling is quick, and the model that the first short run trains is cached
    steps = [n for n in (limits.steps, getattr(run.method, "iterations", 0)) if n is not None]
    return min(steps) >= _LEAST_STEPS and not (required_assets(run.method, run.problem) or run.problem.decoder_assets)


def _repair(run: ResolvedRun) -> str:
    """Return how a set that is too large is made smaller: ``by inputs`` that are left out, ``finely`` by a coarser
    codec, ``by a bit`` less for each value, or not at all (empty)."""
    codec, decoder = run.codec, run.problem.parametrization
    if codec is None or isinstance(codec, Exact | Float):
        return ""
    if is_stored_as_is(decoder) and isinstance(codec, PlannedBits) and can_lose_inputs(codec):
        return "by inputs"
    if isinstance(codec, PlannedBits):
        return "finely"
    if not isinstance(codec, Uniform) or codec.aware or codec.rate:
        return ""
    return "by inputs" if is_stored_as_is(decoder) else "by a bit"


def find_planned_bytes(
    run: ResolvedRun, planned_by: Callable[[int], ResolvedRun], io: RunIO, limits: RunLimits
) -> int:  # fmt: skip
    """Return the bytes to plan by, so that the coded set has the bytes of the budget.

    Args:
        run: planned by the budget itself.
        planned_by: returns the run that is planned by other bytes.
        io: its executor is used.
        limits: of the run, at least `PLAN_STEPS` steps; the time limit's clock goes on.

    Raises:
        PotstillError: the budget holds no set at all.
    """
    most, repair = run.max_bytes, _repair(run)
    assert most is not None
    planned, tried = most, run
    below: tuple[int, float, int] | None = None  # inputs, those that would fill the aim in proportion, planned bytes
    above: tuple[int, float, int] | None = None
    silent = ProgressReporter(silent=True)
    quiet = RunIO(progress=None, executor=io.executor, preparing=silent.report_count)
    for n in range(_TRIES + _MORE_TRIES):
        time = None if limits.clock is None else TimeLimit(SHORT_TIME * limits.clock.remaining)
        short = RunLimits(steps=PLAN_STEPS, time_limit=time)
        sizes = execute(dataclasses.replace(tried, max_bytes=None), short, quiet, silent).metadata["bytes"]
        size = charged_bytes(sizes)
        inputs = sum(tried.problem.sizes)
        aim = _ROOM[repair] * most
        if repair == "by inputs" and len(set(tried.problem.sizes)) == 1:
            aim += size * len(tried.problem.sizes) / inputs  # one more of each class at once: what is over is left out
        if abs(size - aim) <= _FILLED * aim:
            break
        found = inputs, inputs * aim / size, planned
        below, above = (found, above) if size < aim else (below, found)
        factor, jumps = aim / size, False
        if below is not None and above is not None and below[1] > _JUMP * above[1]:
            # a codec's form changes with the number of inputs, and bytes are not in proportion to them
            factor, jumps = math.sqrt(below[0] * above[0]) / inputs, True
            if n + 1 == _TRIES + _MORE_TRIES:
                return below[2]
        following, planned_by_these = _scaled(tried, planned, planned_by, factor)
        if following.problem.sizes == tried.problem.sizes:
            break
        tried, planned = following, planned_by_these
        if not jumps and n + 1 >= _TRIES:
            break
    return planned


def _scaled(
    run: ResolvedRun, planned: int, planned_by: Callable[[int], ResolvedRun], factor: float
) -> tuple[ResolvedRun, int]:  # fmt: skip
    """Return the run of at most ``factor`` times the inputs of ``run``, and the bytes to plan it by; inputs come in
    steps, and not in proportion to these bytes."""
    assert run.max_bytes is not None
    wanted = factor * sum(run.problem.sizes)
    low, high, best = 0, min(_MOST * run.max_bytes, 1 + int(2 * factor * planned)), run
    at = min(high, max(1, int(factor * planned)))
    for _ in range(_HALVINGS):
        try:
            following = planned_by(at)
            inputs = sum(following.problem.sizes)
        except PotstillError:  # fewer bytes than one input of each class takes
            inputs = 0
        if inputs and abs(inputs - wanted) <= _FILLED * wanted:
            return following, at
        if inputs <= wanted:
            low = at
            if inputs and (factor < 1 or inputs > sum(best.problem.sizes)):
                best, planned = following, at
        else:
            high = at
        at = (low + high) // 2
    return best, planned
