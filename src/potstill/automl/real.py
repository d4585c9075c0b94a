"""Method ``real``: search how to keep real samples on held-out training data, then keep them of all of it.

The search is that of the baselines (`potstill.evaluation.real_sets`). It lives here, and not in the method, as methods
do not know students: as ``auto``, ``real`` is resolved before its run. Test data are not read.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch

from potstill._util.formatting import format_duration
from potstill._util.progress import ProgressReporter
from potstill.codecs import format_codec
from potstill.core import Method, Source
from potstill.core.registry import make_method
from potstill.data.selection_order import order_samples, selection_operations
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    count_strata,
    estimate_items,
    max_items_per_class,
    proportional,
    take,
)
from potstill.evaluation.candidate_trials import BATCH, narrow_network
from potstill.evaluation.closed_form_screen import screen_operations
from potstill.evaluation.estimators import LearnerFactory, default_student
from potstill.evaluation.forecast import measure_step_seconds
from potstill.evaluation.real_set_space import RealSetSpace, RealWay, has_label_bits, short_codecs
from potstill.evaluation.real_sets import RealSetSearch, Trial, space_of
from potstill.execution import Executor, Serial, choose_executor, resolve_executor
from potstill.kinds import get_kind
from potstill.methods.selection.real import Real
from potstill.rng import draw_seed, generator
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.runner import execute
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.tasks import Classification, get_task

__all__ = ["distil_real", "fit_counts", "is_searched", "one_of_each", "search_real_sets", "spec_of_way"]

SHARE = 0.8
"""Part of a time limit that the search may take."""
CENTRES = 0.2
"""Part of a time limit that k-means may take in a short search."""
OPERATIONS_PER_SECOND = 3e9
"""Operations of k-means in a second of one core."""
SHORT_SECONDS = 10.0
"""Seconds of students below which starting processes takes longer than it saves."""


def is_searched(method: str | Method[Any], options: Mapping[str, Any]) -> bool:
    """Return whether a run's samples are to be searched: method ``real``, without a selection that is named."""
    if isinstance(method, str) and method != "real":
        return False
    value = make_method(method, options)[1]
    return isinstance(value, Real) and value.selection == "auto"


def distil_real(
    spec: RunSpec, limits: RunLimits, io: RunIO, reporter: ProgressReporter, output: SetOutput | None
) -> Distilled:
    """Return the best real set of ``spec``'s bytes or items, with the search in its record as ``choice``.

    Args:
        spec: its method is ``real``. A codec, a balance or labels that it names are used. For items, the codec is the
            one of fewest bits that loses no accuracy.
        limits: a time limit makes the search quick, or leaves it out, where it would not fit.
        io, reporter: of the run.
        output: where the set will also be written.

    Raises:
        PotstillError: not even one sample of each class fits, or an argument does not suit the data.
    """
    splits = as_splits(spec.data, pick_device(spec.device))
    spec = dataclasses.replace(spec, data=splits)
    resolve_run(one_of_each(spec, splits.train))  # arguments that do not suit the data end here, before the search
    search, seconds = search_real_sets(spec, splits.train, limits, reporter, resolve_executor(io.executor))
    trial = search.chosen()
    run = resolve_run(one_of_each(spec_of_way(spec, trial.way), splits.train))
    if spec.bytes is not None:
        run = fit_counts(run, spec.size_budget.amount, trial.per_class)
    small = execute(run, limits, io, reporter, output=output)
    while spec.bytes is not None and _total(small) > spec.size_budget.amount:  # soft labels took more than foreseen
        run = _with_counts(run, [max(1, count - 1) for count in run.problem.counts])
        small = execute(run, limits, io, reporter, output=output)
    if small.choice is None:
        small.record["choice"] = _choice(search, trial, spec, seconds, len(splits.train))
    if output is not None and small.path is None:
        output.write(small)
    return small


def one_of_each(spec: RunSpec, train: Source) -> RunSpec:
    """Return the spec of one sample of each class in place of bytes: how many fit is counted by writing them."""
    return spec if spec.bytes is None else dataclasses.replace(spec, bytes=None, items=max(1, len(train.classes)))


def _total(small: Distilled) -> int:
    return charged_bytes(small.metadata["bytes"])


def search_real_sets(
    spec: RunSpec, train: Source, limits: RunLimits, reporter: ProgressReporter, executor: Executor | None = None
) -> tuple[RealSetSearch, float]:
    """Return a finished search for the best real set of a spec, and its seconds."""
    started, budget = time.monotonic(), spec.size_budget
    make = default_student(train, spec.network if isinstance(spec.network, str) else None)
    small, natural = narrow_network(make, train), budget.natural and len(train.classes) > 0
    where = BaselineContext(
        train=train, byte_budget=budget.amount, make=small, seed=spec.seed, proportional=natural, indexed=True,
        items=None if budget.unit == "bytes" else budget.amount * (len(train.classes) if budget.unit == "ipc" else 1),
    )  # fmt: skip
    space = _feasible(_narrowed(space_of(where, labels=("hard", "top3")), spec, budget.unit), where)
    items = estimate_items(where)
    timed = space.count_codecs() and not isinstance(small, LearnerFactory)
    step = measure_step_seconds(small, train, min(BATCH, len(train))) if timed else 0.0
    update, scored = step * where.trial_length.updates(items), screen_operations(small, train.input, items)

    def cost(of: RealSetSpace) -> float:
        """Return about the seconds of a search."""
        screening = of.count_ways() * scored / OPERATIONS_PER_SECOND if of.screens() else 0.0
        return update * of.count_students() + screening

    clock = limits.clock
    if clock is not None and cost(space) > SHARE * clock.remaining:
        quick = _feasible(_narrowed(space_of(dataclasses.replace(where, quick=True)), spec, budget.unit), where)
        shorter = _shorter(quick, train, by_centres=_has_cheap_centres(where, quick, clock.remaining))
        space = next((s for s in shorter if cost(s) <= SHARE * clock.remaining), shorter[-1])
    seconds = cost(space)
    reporter.expect("how to keep real samples", seconds, f"real tries up to {space.count_students()} small students")
    if executor is None:
        executor = Serial() if seconds < SHORT_SECONDS else choose_executor(space.rounds[-1], small.device, small)
    where = dataclasses.replace(where, executor=executor)
    most = None if clock is None else clock.remaining
    search = RealSetSearch(where=where, space=space, say=reporter.report_count, seconds=most).run()
    return search, time.monotonic() - started


def _has_cheap_centres(where: BaselineContext, space: RealSetSpace, seconds: float) -> bool:
    """Return whether these are pictures, of which k-means wins in few bytes (docs/benchmarks/bytes.md), and so few that
    it takes a small part of ``seconds``."""
    if "k-means" not in space.selections or not get_kind(where.train.input).augmentable:
        return False
    each = max(1, estimate_items(where) // count_strata(where.train))
    operations = selection_operations(where.train, "k-means", [each] * max(1, len(where.train.classes)))
    return operations / OPERATIONS_PER_SECOND <= CENTRES * seconds


def _shorter(quick: RealSetSpace, train: Source, *, by_centres: bool) -> list[RealSetSpace]:
    """Return a quick search and shorter ones: with a student of each way, and of the two coarsest codecs of a family.
    The last may be cut short by its time."""
    selections = tuple(s for s in quick.selections if s == "random" or (s == "k-means" and by_centres))
    one = dataclasses.replace(quick, selections=selections, labels=quick.labels[:1], rounds=(1,))
    return [quick, one, dataclasses.replace(one, codecs=short_codecs(train.input, quick.codecs))]


def _narrowed(space: RealSetSpace, spec: RunSpec, unit: str) -> RealSetSpace:
    """Return the space without what the spec decides."""
    method = make_method(spec.method, spec.options)[1]
    labels = spec.labels or getattr(method, "labels", "hard")
    if labels != "hard":
        space = dataclasses.replace(space, labels=(str(labels),))
    elif spec.labels == "hard":
        space = dataclasses.replace(space, labels=("hard",))
    if spec.balance is not None or unit == "ipc":
        space = dataclasses.replace(space, natural=space.natural[:1])
    if isinstance(spec.codec, str) and spec.codec != "auto":
        return dataclasses.replace(space, codecs=((spec.codec,),))
    if unit != "bytes":  # how few bits do is found at the end, against these same samples
        return dataclasses.replace(space, codecs=(("exact",),), labels=space.labels[:1])
    return space


def _feasible(space: RealSetSpace, where: BaselineContext) -> RealSetSpace:
    """Return the space without equal classes where the smallest class has too few samples for its share."""
    sizes = where.train.labels.bincount(minlength=len(where.train.classes)) if where.train.classes else None
    if where.items is None or sizes is None or -(-where.items // len(sizes)) <= int(sizes.min()):
        return space
    return dataclasses.replace(space, natural=(True,)) if True in space.natural else space


def spec_of_way(spec: RunSpec, way: RealWay) -> RunSpec:
    """Return the spec of a run that keeps samples in one way."""
    codec: Any = spec.codec
    if spec.bytes is not None and codec is None:
        codec = way.codec
        if way.labels == "top3" and has_label_bits(codec):
            codec += f"{',' if ':' in codec else ':'}labels=4"
    if codec is None and isinstance(get_task(as_splits(spec.data, pick_device(spec.device)).train), Classification):
        codec = "auto"
    options = {name: value for name, value in spec.options.items() if name not in ("selection", "labels")}
    method = spec.method
    if isinstance(method, Real):
        method = make_method(method, {"selection": way.selection})[1]
    return dataclasses.replace(
        spec, method=method, codec=codec, labels=way.labels if way.labels != "hard" or spec.labels else None,
        balance=None if spec.ipc is not None else "natural" if way.natural else "equal",
        options={**options, "selection": way.selection} if isinstance(spec.method, str) else options,
    )  # fmt: skip


def fit_counts(run: ResolvedRun, byte_budget: int, guess: int = 1) -> ResolvedRun:
    """Return the run with as many of its samples as fit, by the bytes of what will be written.

    Args:
        guess: about how many samples of each class.
    """
    problem, method = run.problem, run.method
    if not isinstance(method, Real) or run.codec is None:
        return run
    train, codec = problem.train, run.codec
    seed = draw_seed(generator(run.seed, "distill", run.name))
    sizes = [len(index) for index in problem.class_indices]
    most = sizes if method.selection == "random" else [min(n, guess * 5 // 4 + 8) for n in sizes]
    order: Any = order_samples(train, method.selection, most, seed)
    if run.balance == "natural" and len(set(sizes)) > 1:
        order = proportional(train, order)
    n = max_items_per_class(
        train, order, byte_budget, format_codec(codec), soft=method.labels != "hard", guess=guess, indexed=True
    )
    if n < 1:
        raise PotstillError(
            f"one real sample of each class does not fit into {byte_budget:,} bytes; raise the budget, or store fewer "
            "bits"
        )
    labels = train.labels[take(order, n)] if train.classes else torch.zeros(len(take(order, n)), dtype=torch.int64)
    return _with_counts(run, labels.bincount(minlength=len(sizes)).tolist())


def _with_counts(run: ResolvedRun, counts: list[int]) -> ResolvedRun:
    return dataclasses.replace(run, problem=dataclasses.replace(run.problem, counts=tuple(counts)))


def _choice(search: RealSetSearch, trial: Trial, spec: RunSpec, seconds: float, samples: int) -> dict[str, Any]:
    """Return the search as metadata: JSON values and one sentence."""
    made_of, held = (len(part) for part in search.where.parts())
    table, way = search.table(), trial.way
    scored = sum(t.screened is not None for t in search.trials)
    by = f"by {search.trained} small students" if search.trained else "by ridge regression alone, for lack of time,"
    if search.trained and scored:
        by = f"by ridge regression, and by {search.trained} small students of the best,"
    text = (
        f"Real samples by {way.describe()}: the best of {len(table)} ways, {by} on {held:,} of {samples:,} training "
        f"samples, in {format_duration(seconds)}; test data were not read."
    )
    if not search.trained and not scored:
        text = f"Real samples by {way.describe()}: the only way that was left to try."
    return {
        "text": text, "chosen": way.to_dict(), "seconds": round(seconds, 3),
        "held": {"made_of": made_of, "choose": held, "samples": samples},
        "students": {
            "network": search.where.make.name,
            "steps": search.where.trial_length.steps,
            "passes": search.where.trial_length.passes,
            "trained": search.trained,
            "most": search.space.count_students(),
        },
        "tried": table,
    }  # fmt: skip
