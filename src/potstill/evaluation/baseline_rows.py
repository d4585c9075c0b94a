"""Rows of a scorecard for real samples: baselines in the set's bytes, the best real set, and as many samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import (
    CHEAP_OPERATIONS,
    MIN_DRAWS,
    BaselineContext,
    SoftLabelFn,
    count_strata,
    make_item_matched,
)
from potstill.evaluation.candidate_trials import count_operations
from potstill.evaluation.measurement import EvaluationContext, Measurement, measure
from potstill.evaluation.real_sets import BASELINES, BASELINES_OF_PAIRS, RealSetSearch, space_of
from potstill.evaluation.training_sets import TrainingSet
from potstill.tasks import Retrieval
from potstill.verdicts import AS_MANY, REAL

__all__ = ["baseline_names", "best_real_entry", "label_forms", "measure_baselines"]


def baseline_names(context: EvaluationContext, distilled: Distilled) -> tuple[list[str], dict[str, str]]:
    """Return the baselines to measure, and why others are left out."""
    if not context.is_classification:
        return list(BASELINES_OF_PAIRS if isinstance(context.task, Retrieval) else BASELINES[:1]), {}
    if context.learner is not None or context.teacher_labels:
        # random-soft's labels are a network's; with a teacher's labels random samples are random-soft
        return [name for name in BASELINES if name != "random-soft"], {}
    if context.protocol.shortened and not distilled.has_soft_labels:
        # its teacher and its students are a third of the remaining time
        why = "a quick look at a set of classes alone does not train its teacher"
        return [name for name in BASELINES if name != "random-soft"], {"random-soft": why}
    return list(BASELINES), {}


def measure_baselines(
    context: EvaluationContext, baseline_context: BaselineContext, names: Sequence[str], distilled: Distilled,
    label_rows: SoftLabelFn | None,
) -> tuple[dict[str, tuple[TrainingSet, Measurement]], dict[str, str], str | None]:  # fmt: skip
    """Return every baseline with its measurement, why others failed, and which one is the best real set.

    One search finds the codec of each, and the best way of all, which is measured as ``real`` if it is none of them.
    """
    measured: dict[str, tuple[TrainingSet, Measurement]] = {}
    failed: dict[str, str] = {}
    if not names:
        return measured, failed, None
    draws, best = _count_draws(context), None

    def measure_all(name: str, training_set: TrainingSet) -> Measurement:
        students = max(context.students, len(training_set.pairs))
        return measure(replace(context, students=students), name, training_set)

    try:
        search = RealSetSearch(
            where=baseline_context, space=space_of(baseline_context, labels=label_forms(names)), rows=label_rows,
            say=context.report,
        ).run()  # fmt: skip
    except PotstillError as error:
        failed = dict.fromkeys(names, str(error))
    else:
        trials = {
            name: search.best(selection="random", labels="soft") if name == "random-soft"
            else search.best(selection=name, first=True)
            for name in names
        }  # fmt: skip
        best = next((name for name, t in trials.items() if t is search.chosen()), REAL)
        trials |= {REAL: search.chosen()} if best == REAL else {}
        for name, trial in trials.items():
            try:
                if trial is None:
                    raise PotstillError("no sample of each class fits into the bytes of the set")
                training_set = search.make(trial, draws)
                if name == REAL:
                    training_set = replace(training_set, trials=tuple(search.table()))
            except PotstillError as error:
                failed[name] = str(error)
                continue
            measured[name] = training_set, measure_all(name, training_set)
    k = count_strata(context.train)
    sizes = torch.bincount(context.train.labels, minlength=k)
    labels = distilled.hard_labels if context.is_classification else torch.zeros(len(distilled), dtype=torch.int64)
    counts = torch.minimum(torch.bincount(labels, minlength=k), sizes).tolist()
    items = make_item_matched(baseline_context, counts, draws)
    random, found = measured.get("random"), None
    if random and random[0].codec == "exact" and torch.equal(random[0].pair_for(0)[1], items.pair_for(0)[1]):
        found = random[1]  # the same samples with the same codec
    measured[AS_MANY] = items, found or measure_all(AS_MANY, items)
    return measured, failed, best if best in measured else None


def label_forms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of real samples that are tried: a teacher's where one is trained."""
    return ("hard", "soft", "top3") if "random-soft" in names else ("hard",)


def best_real_entry(baselines: Mapping[str, Mapping[str, Any]], best: str | None) -> dict[str, Any]:
    """Return the entry of the best real set, which repeats that of another baseline where it is the same."""
    if best is None or best == REAL:
        return {}
    return {REAL: {**baselines[best], "same_as": best}}


def _count_draws(context: EvaluationContext) -> int:
    """Return the number of random draws: one for each student, and with few students more, where they are cheap."""
    p, more = context.protocol, MIN_DRAWS - context.students
    updates = max(p.recipe.steps, default=0) or (p.recipe.epochs or 0)
    cost = 3 * count_operations(context.make, context.train.input) * updates * p.recipe.batch * more
    return MIN_DRAWS if 0 < cost <= CHEAP_OPERATIONS else context.students
