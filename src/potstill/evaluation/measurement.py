"""Measurement of one training set: select rate and length, train the students, test them once."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from potstill._util.progress import Callback, collect_results
from potstill.augment.mix import label_rows
from potstill.augment.names import augmentation_name
from potstill.core import Augmentation, NetworkFactory, Source, Task
from potstill.core.nested import num_samples
from potstill.data import holdout
from potstill.data.groups import get_groups
from potstill.evaluation.augmentation import omitted_augmentations, student_augmentation
from potstill.evaluation.byte_matched_baselines import count_strata
from potstill.evaluation.distilled_training import Teachers
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.naive import unit_errors
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.samples import SampleScores, sample_scores
from potstill.evaluation.statistics import count_answers, summary
from potstill.evaluation.student import StudentJob
from potstill.evaluation.training_sets import TrainingSet
from potstill.evaluation.vmap_students import predict_all
from potstill.execution import Executor
from potstill.functional.label_simplex import to_scores
from potstill.rng import derive_seed
from potstill.tasks import Classification, MultiMetricTask, get_targets, get_task

__all__ = ["EvaluationContext", "Measurement", "mean", "measure", "measurement_of_answers"]

MAX_CONFUSION_CLASSES = 32
"""Maximum number of classes with a confusion matrix, which is quadratic in it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """Settings shared by all sets that are compared with one network."""

    protocol: Protocol
    """Resolved for this data and this network."""
    make: NetworkFactory
    train: Source
    test: Source
    students: int
    seed: int
    executor: Executor
    report: Callback
    side_by_side: int
    teachers: Teachers | None = None

    @property
    def task(self) -> Task:
        return get_task(self.train)

    @property
    def is_classification(self) -> bool:
        return isinstance(self.task, Classification)

    @property
    def learner(self) -> LearnerFactory | None:
        return self.make if isinstance(self.make, LearnerFactory) else None

    @property
    def teacher_labels(self) -> bool:
        """True if a teacher labels every batch."""
        return self.protocol.teaching.labels == "teacher"

    def summarize(self, measurement: "Measurement") -> dict[str, Any]:
        """Return mean, spread and interval of the students' scores."""
        metric = self.task.metric
        answers = count_answers(metric, len(self.test))
        return summary(measurement.values, answers, metric.low, samples=measurement.samples)

    def with_score(self, summarized: Mapping[str, Any]) -> dict[str, Any]:
        """Return a summary with ``score``, its task-independent form."""
        keys = ("mean", "std", "ci95", "n", "ci95_same_test")
        found = {name: summarized[name] for name in keys if name in summarized}
        return {**summarized, "score": self.task.metric.to_dict | found}

    def predict(self, label: str, jobs: list[StudentJob], source: Source) -> list[Tensor | None]:
        """Train the students and return their answers for ``source``."""
        self.report(label, 0, len(jobs))
        answers = predict_all(source, jobs, self.executor, self.side_by_side)
        return collect_results(answers, self.report, label, len(jobs))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Test results of the students of one training set."""

    values: list[float]
    """Score of each student."""
    samples: SampleScores | None
    """Scores of the single test samples; ``None`` with too few samples."""
    per_class: list[float]
    """Accuracy on each class; empty without classes."""
    per_group: list[dict[str, Any]]
    """Score on each group of test samples (``group``, ``mean``, ``n``); empty without groups."""
    further: Mapping[str, list[float]]
    """Further metrics of each student, by name."""
    units: Mapping[str, Mapping[str, float]]
    """Forecast errors of each variable in its own units; else empty."""
    confusion: list[list[int]]
    """Confusion matrix (rows: true classes); empty without classes, or above `MAX_CONFUSION_CLASSES`."""
    settings: Mapping[str, Any]
    """Selected settings: ``lr``, ``steps``, ``augment``, ``left_out``."""
    diverged: int
    """Number of students with non-finite weights."""


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def measure(
    context: EvaluationContext,
    label: str,
    training_set: TrainingSet,
    *,
    augment: str | None = None,
    selected: Mapping[str, Any] | None = None,
) -> Measurement:
    """Select settings where the protocol leaves them open, train the students, and predict the test split once each.

    A ``best-on-test`` protocol predicts it more often and counts the best.

    Args:
        label: for progress.
        augment: replaces the protocol's augmentation; ``none`` turns off mixing too.
        chosen: settings to use instead of selecting them.
    """
    p = context.protocol.for_set_size(num_samples(training_set.pair_for(0)[0]), count_strata(context.train))
    context = replace(context, protocol=p)
    augment = "none" if training_set.is_augmented else augment
    p = p if augment != "none" else p.change(mix="none")
    name = p.recipe.augment if augment is None else augment
    augmentation = student_augmentation(name, context.train)
    fixed: dict[str, Any] = {"lr": 0.0, "steps": None}  # a recipe does not apply to learners
    learner = context.learner
    settings = dict(selected or (_select(context, label, training_set, augmentation) if learner is None else fixed))
    students = context.students if learner is None or learner.learner.draws else len(training_set.pairs)
    jobs = [
        _job(context, training_set, n, p, settings["lr"], settings["steps"], augmentation, "student")
        for n in range(students)
    ]
    answers = context.predict(label, jobs, context.test)
    settings["augment"] = augmentation_name(name, context.train.input)
    if omitted := omitted_augmentations(name, p, context.train):
        settings["left_out"] = omitted
    return measurement_of_answers(context, answers, settings if learner is None else {"augment": "none"})


def measurement_of_answers(
    context: EvaluationContext, answers: Sequence[Tensor | None], settings: Mapping[str, Any]
) -> Measurement:
    """Return the measurement of models by their answers for the test split.

    Args:
        answers: of each model; ``None``: it has non-finite weights.
        settings: what was selected for them.
    """
    task, test, targets, groups = context.task, context.test, get_targets(context.test), get_groups(context.test)
    classes = len(test.classes) if context.is_classification else 0
    return Measurement(
        values=_student_scores(task, answers, targets, groups),
        samples=sample_scores(task, answers, targets),
        per_class=_per_class(answers, test) if classes else [],
        per_group=_per_group(task, answers, targets, groups),
        further=_further_scores(task, answers, targets, groups),
        units=unit_errors(task, answers, targets),
        confusion=_confusion(answers, test) if 0 < classes <= MAX_CONFUSION_CLASSES else [],
        settings=settings,
        diverged=sum(answer is None for answer in answers),
    )


def _job(
    context: EvaluationContext, training_set: TrainingSet, n: int, protocol: Protocol, lr: float, steps: int | None,
    augment: Augmentation, stream: str,
) -> StudentJob:  # fmt: skip
    return StudentJob(
        make=context.make, x=training_set.pair_for(n)[0], y=_student_targets(context, training_set, n),
        protocol=protocol, lr=lr, steps=steps, augment=augment, seed=derive_seed(context.seed, stream, n),
        teachers=context.teachers, stored_labels=training_set.stored_labels, weights=training_set.weights,
        task=context.task, normalization=context.train.normalization, texts=training_set.texts_for(n),
        edges=training_set.edges,
    )  # fmt: skip


def _student_targets(context: EvaluationContext, training_set: TrainingSet, student: int) -> Tensor:
    """Return a student's targets: scores where outputs are compared with scores, else the set's labels."""
    y, k = training_set.pair_for(student)[1], len(context.train.classes)
    if not context.is_classification:
        return y
    if context.learner is not None:
        real_rows = getattr(context.learner.learner, "real_rows", False)
        return training_set.scores + 1 / k if training_set.scores is not None and real_rows else y
    if context.protocol.teaching.loss != "squared":
        return y
    return to_scores(label_rows(y, k, torch.float32)) if training_set.scores is None else training_set.scores


def _student_scores(
    task: Task, answers: Sequence[Tensor | None], targets: Tensor, groups: Tensor | None = None
) -> list[float]:
    """Return each student's score; a diverged student counts as chance."""
    return [task.chance_score(targets) if a is None else task.score(a, targets, groups) for a in answers]


def _further_scores(
    task: Task, answers: Sequence[Tensor | None], targets: Tensor, groups: Tensor | None
) -> dict[str, list[float]]:
    """Return the further metrics of students that did not diverge, by name."""
    if not isinstance(task, MultiMetricTask):
        return {}
    found = [task.further_scores(answer, targets, groups) for answer in answers if answer is not None]
    return {name: [scores[name] for scores in found] for name in (found[0] if found else ())}


def _per_class(answers: Sequence[Tensor | None], test: Source) -> list[float]:
    """Return the accuracy on each class, the mean over students."""
    labels, k = test.labels, len(test.classes)
    sizes, hits = torch.bincount(labels, minlength=k).clamp(min=1), torch.zeros(k, dtype=torch.float64)
    for answer in answers:
        if answer is None:
            hits += 1 / k / len(answers)
        else:
            hits += torch.bincount(labels[answer == labels], minlength=k) / sizes / len(answers)
    return hits.tolist()


def _per_group(
    task: Task, answers: Sequence[Tensor | None], targets: Tensor, groups: Tensor | None
) -> list[dict[str, Any]]:
    """Return the score on each group of test samples, the mean over students."""
    if groups is None:
        return []
    at_by_group = {group: torch.where(groups == group)[0] for group in torch.unique(groups).tolist()}
    return [
        {"group": group, "n": len(at), "mean": mean(
            _student_scores(task, [None if a is None else a[at] for a in answers], targets[at], groups[at])
        )}
        for group, at in at_by_group.items()
    ]  # fmt: skip


def _confusion(answers: Sequence[Tensor | None], test: Source) -> list[list[int]]:
    """Return counts by true class (row) and answer (column), without diverged students."""
    k = len(test.classes)
    pairs = [(test.labels * k + answer).cpu() for answer in answers if answer is not None]
    return torch.bincount(torch.cat([test.labels[:0].cpu(), *pairs]), minlength=k * k).reshape(k, k).tolist()


def _select(
    context: EvaluationContext, label: str, training_set: TrainingSet, augmentation: Augmentation
) -> dict[str, Any]:
    """Select the learning rate at the greatest length, then the length, on held-out training data."""
    p = context.protocol
    least = p.recipe.least_epochs * math.ceil(training_set.pass_items / p.recipe.batch)
    lengths: tuple[int | None, ...] = tuple(dict.fromkeys(max(s, least) for s in p.recipe.steps)) or (None,)
    rates = (training_set.lr,) if p.selection.lr_of_set and training_set.lr is not None else p.recipe.lr
    if len(rates) * len(lengths) == 1:
        return {"lr": rates[0], "steps": lengths[0]}
    fraction = min(p.selection.validation, p.selection.validation_most / len(context.train))
    held_out = holdout(context.train, fraction, derive_seed(context.seed, "validation") % 2**31)[1]
    targets, metric = get_targets(held_out), context.task.metric
    diverged_score = metric.low - 1 if metric.direction == "higher" else math.inf
    students = p.selection.validation_students
    scores: dict[tuple[float, int | None], float] = {}

    def best_of(settings: list[tuple[float, int | None]]) -> tuple[float, int | None]:
        if len(settings) == 1:
            return settings[0]
        untested = [setting for setting in settings if setting not in scores]
        jobs = [
            _job(context, training_set, n, p, lr, steps, augmentation, "choice")
            for (lr, steps), n in itertools.product(untested, range(students))
        ]
        answers = context.predict(f"{label}: choosing", jobs, held_out)
        values = [diverged_score if a is None else context.task.score(a, targets) for a in answers]
        for i, setting in enumerate(untested):
            scores[setting] = mean(values[i * students : (i + 1) * students])
        # the first of equals: the lower rate, the shorter length
        return max(settings, key=lambda setting: metric.sign * scores[setting])

    lr, _ = best_of([(rate, lengths[-1]) for rate in rates])
    return dict(zip(("lr", "steps"), best_of([(lr, steps) for steps in lengths]), strict=True))
