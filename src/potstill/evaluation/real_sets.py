"""The best real samples in so many bytes: the one search that evaluation, comparison, ``auto`` and ``real`` share.

Small students learn each way to store real samples (`potstill.evaluation.real_set_space`) of one part of the training
data and are tested on another. All ways have the same students, so that they are compared in pairs; the hopeless ones
are dropped after each round (successive halving, arXiv:1502.07943). First random samples try every codec; then other
selections, proportions and labels try the codecs that did best; last the best of each are put together. Of pictures
there are many ways: all are scored in closed form first, and students try the best.

What was chosen is measured, or saved, with fresh draws of all training data, packed and read back.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import call
from typing import Any

import torch
from torch import Tensor

from potstill._util.progress import Callback
from potstill.core import Source
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import (
    MAX_CODED_BYTES,
    TEXTS,
    BaselineContext,
    Order,
    SoftLabelFn,
    SoftLabels,
    baseline_order,
    count_strata,
    estimate_items,
    holds,
    max_items_per_class,
    min_bytes,
    pack_samples,
    proportional,
    take,
)
from potstill.evaluation.candidate_trials import MARGIN, Probe, make_probe, paired_loss
from potstill.evaluation.closed_form_screen import ClosedFormScreen
from potstill.evaluation.estimators import FitsTexts, LearnerFactory
from potstill.evaluation.real_set_space import RealSetSpace, RealWay, has_label_bits
from potstill.evaluation.training_sets import TeacherJob, TrainingSet
from potstill.labels.teacher import soft_labels
from potstill.rng import derive_seed
from potstill.tasks import get_task

__all__ = ["BASELINES", "BASELINES_OF_PAIRS", "RealSetSearch", "Trial", "count_trials", "space_of"]

BASELINES = ("random", "herding", "random-soft")
"""Baselines in the bytes of the set, in display order. ``random-items`` comes after them: the literature's comparison,
as many real samples as the set has inputs, exact, whatever their bytes. ``real`` is the best way of all.
"""
BASELINES_OF_PAIRS = ("random", "prototypes")
"""Baselines of pictures with texts."""
SURE = 0.9
"""One-sided confidence that a way is behind, above which it is dropped."""


@dataclass(kw_only=True)
class Trial:
    """A way under trial."""

    way: RealWay
    per_class: int
    """Samples of each class, or of the largest."""
    bytes: int = 0
    items: int = 0
    rows: Tensor = field(default_factory=lambda: torch.zeros(0, 1, dtype=torch.float64))
    """Parts of each student's score; more is better."""
    rounds: int = 0
    screened: float | None = None
    """Accuracy in closed form, a fraction."""

    @property
    def merit(self) -> float:
        """Mean score of its students, its sign turned where less is better."""
        return float(self.rows.mean()) if len(self.rows) else 0.0

    @property
    def score(self) -> float:
        """Mean score of its students; without any, its accuracy in closed form."""
        return self.merit if len(self.rows) else self.screened or 0.0

    def is_behind(self, leader: "Trial") -> bool:
        """Return whether the shared students show that it is behind."""
        shared = min(len(self.rows), len(leader.rows))
        if self is leader or shared == 0 or shared * self.rows.shape[1] < 2:
            return False
        return paired_loss(leader.rows[:shared], self.rows[:shared], confidence=SURE).low > 0


@dataclass(kw_only=True)
class RealSetSearch:
    """A search: its trials, and the sets that are made of what it chose."""

    where: BaselineContext
    space: RealSetSpace
    rows: SoftLabelFn | None = None
    """The teacher of soft labels for what is made of all training data; ``None``: made when it is needed."""
    say: Callback = lambda *_: None
    seconds: float | None = None
    """Time after which no further way is tried, two at least; ``None``: all are."""
    trials: list[Trial] = field(default_factory=list)
    trained: int = 0
    """Students until now."""

    def __post_init__(self) -> None:
        self._fit, self._held = self.where.parts()
        self._soft: dict[str, SoftLabels] = {}
        self._orders: dict[tuple[str, bool, str, int], Order] = {}
        self._made: dict[tuple[str, bool, str], SoftLabels] = {}
        self._started = time.monotonic()

    @property
    def is_late(self) -> bool:
        """True where the time is over; then some ways may be untried."""
        tried = max(self.trained, sum(t.screened is not None for t in self.trials))
        return self.seconds is not None and time.monotonic() - self._started > self.seconds and tried >= 2

    @cached_property
    def probe(self) -> Probe:
        """The students."""
        where = self.where
        return make_probe(
            where.make, where.train, self._held, students=self.space.rounds[-1], seed=where.seed,
            steps=where.trial_length, executor=where.executor,
        )  # fmt: skip

    @cached_property
    def _screen(self) -> ClosedFormScreen:
        """Scores of ways before students learn them."""
        seed = derive_seed(self.where.seed, "screen")
        return ClosedFormScreen(make=self.probe.make, held_out=self._held, seed=seed)

    @cached_property
    def _teacher(self) -> SoftLabelFn:
        """A small teacher of the part that sets are made of."""
        job = TeacherJob(train=self._fit, make=self.probe.make, seed=self.where.seed)
        return partial(soft_labels, job.network(), next(iter(self.where.executor.map(call, [job]))))

    def run(self) -> "RealSetSearch":
        """Try all ways.

        Raises:
            PotstillError: not even one sample of each class fits.
        """
        codecs = self._fitting()
        first = [Trial(way=self._way(self.space.first_group, codec), per_class=n) for codec, n in codecs]
        others = self.space.other_groups()
        self.trials = first
        if len(first) == 1 and not others:
            return self  # there is nothing to choose
        if self.space.screens() and not isinstance(self.where.make, LearnerFactory):
            self._run_screened(first, others)
            return self
        alive = self._halve(first, self.space.rounds[:-1] if others else self.space.rounds)
        if others and not self.is_late:
            best = [t.way.codec for t in sorted(first, key=_rank)[: self.space.shared]]
            more = [
                t for group in others for codec in best if (t := self._new(self._way(group, codec), first)) is not None
            ]
            self.trials += more
            alive = self._halve([*alive, *more], self.space.rounds)
            self._put_together(alive)
        self._finish()
        return self

    def _finish(self) -> None:
        self.trials.sort(key=_rank)
        self._report(self.trained)

    def _run_screened(self, first: list[Trial], others: Sequence[tuple[str, bool, str]]) -> None:
        """Score all ways in closed form; students try the best of them."""
        self._score(first)
        best = [t.way.codec for t in sorted(first, key=_rank)[: self.space.shared]]
        more = [t for group in others for codec in best if (t := self._new(self._way(group, codec), first)) is not None]
        self._score(more)
        self.trials = [*first, *more]
        tried = sorted(self.trials, key=_rank)[: self.space.screened]
        self._put_together(self._halve(tried, self.space.rounds))
        self._finish()

    def _score(self, trials: Sequence[Trial]) -> None:
        """Score ways in closed form, by one draw of each."""
        for done, trial in enumerate(trials):
            if trial.screened is None and not self.is_late:
                made = self._made_for(trial, 0)
                trial.bytes, trial.items = made.bytes, made.items
                trial.screened = self._screen.score(made.pairs[0])
                self.say("how to keep real samples, in closed form", done + 1, len(trials))

    def best(self, *, selection: str, labels: str = "hard", first: bool = False) -> Trial | None:
        """Return the best way of a selection and of labels; ``None``: there is none.

        Args:
            first: of the first proportions alone.
        """
        found = [
            t for t in self.trials
            if (selection, labels) == (t.way.selection, t.way.labels)
            and not (first and t.way.natural != self.space.natural[0])
        ]  # fmt: skip
        return min(found, key=_rank) if found else None

    def chosen(self) -> Trial:
        """Return the best way; of those in the same codec that are less than half a point behind it, the simplest."""
        leader = self.trials[0]
        same = [t for t in self.trials if t.way.codec == leader.way.codec and t.rounds == leader.rounds]
        margin = MARGIN if get_task(self.where.train).metric.unit == "fraction" else 0.0
        groups = [self.space.first_group, *self.space.other_groups()]

        def order(t: Trial) -> int:
            return groups.index(t.way.group) if t.way.group in groups else len(groups)

        return min((t for t in same if t is leader or leader.score - t.score < margin), key=order)

    def make(self, trial: Trial, draws: int) -> TrainingSet:
        """Return sets of all training data, stored in a way that was tried: ``draws``, or one where it draws nothing.

        Raises:
            PotstillError: of all training data, not one sample of each class fits.
        """
        where, way = self.where, trial.way
        soft = None if way.labels == "hard" else self._labels_of_all(way)

        def order_of(draw: int, most: int) -> Order:
            order = baseline_order(where.train, way.selection, where.seed, f"{draw}", most)
            return self._in_proportion(where.train, order, way)

        fitting = [
            self._fitting_order(where.train, trial, partial(order_of, n), soft or False)
            for n in range(1 if way.selection == "herding" else draws)
        ]
        orders, numbers = [order for order, _ in fitting], [number for _, number in fitting]
        if min(numbers) < 1:
            raise PotstillError(
                f"one real sample{_each(where.train)} does not fit into the {where.byte_budget:,} bytes of the set"
            )
        made = pack_samples(where.train, orders, min(numbers), way.codec, soft)
        return replace(made, trials=tuple(self.table(way.group)), way=way.to_dict())

    def table(self, group: tuple[str, bool, str] | None = None) -> list[dict[str, Any]]:
        """Return what was tried as JSON values, best first: all of it, or one group."""
        metric = get_task(self.where.train).metric
        name = "accuracy" if metric.name == "accuracy" else "score"
        rows = []
        for t in self.trials:
            if group not in (None, t.way.group):
                continue
            row: dict[str, Any] = {"per_class": t.per_class}
            if len(t.rows):
                row |= {"bytes": t.bytes, "items": t.items, name: metric.sign * t.merit, "students": len(t.rows)}
            if t.screened is not None:
                row |= {"bytes": t.bytes, "items": t.items, "closed_form": t.screened}
            rows.append({"codec": t.way.codec, **row} if group is not None else {**t.way.to_dict(), **row})
        return rows

    # --- trials ---------------------------------------------------------------------------------------------------

    def fit(self, train: Source, order: Order, codec: str, soft: SoftLabels | bool, guess: int) -> int:
        """Return the samples of each class that fit."""
        where = self.where
        if where.items is None:
            return max_items_per_class(
                train, order, where.byte_budget, codec, soft=soft, guess=guess, indexed=where.indexed
            )
        n = where.items // len(order)
        while len(take(order, n + 1)) <= where.items and n < max(map(len, order)):
            n += 1
        while n > 1 and len(take(order, n)) > where.items:
            n -= 1
        return n

    def _fitting(self) -> list[tuple[str, int]]:
        """Return every codec with the samples per class that fit, without coarser ones that fit no more."""
        where, group, fit = self.where, self.space.first_group, self._fit
        order = self._order(group, 0, None)
        every, found = max(map(len, order)), list[tuple[str, int]]()
        for family in self.space.codecs:
            if family[0].startswith("mosaic") and where.byte_budget > MAX_CODED_BYTES:
                continue
            before = 0
            for codec in family:
                if before < every and holds(where.train, codec):
                    n = self.fit(fit, order, codec, self._soft_of(group), max(1, before))
                    if n > before:
                        found.append((codec, n))
                    before = max(before, n)
            if found and found[0] == ("exact", every):
                break  # all there is, as it is
        if not found:
            codecs = [codec for family in self.space.codecs for codec in family]
            least = min_bytes(fit, order, codecs, self._soft_of(group))
            raise PotstillError(
                f"one real sample{_each(fit)} takes at least {least:,} bytes, but the set takes {where.byte_budget:,}; "
                "give more bytes"
            )
        return found

    def _way(self, group: tuple[str, bool, str], codec: str) -> RealWay:
        return RealWay(codec=codec, selection=group[0], natural=group[1], labels=group[2])

    def _new(self, way: RealWay, first: Sequence[Trial]) -> Trial | None:
        """Return a trial of a way in a codec that others have, as large as fits; ``None``: nothing does."""
        if way.labels == "top3" and not has_label_bits(way.codec):
            return None
        guess = next((t.per_class for t in first if t.way.codec == way.codec), 1)
        trial = Trial(way=way, per_class=guess)
        order = self._order(way.group, 0, self._most(trial))
        trial.per_class = self.fit(self._fit, order, way.codec, self._soft_of(way.group), guess)
        return trial if trial.per_class > 0 else None

    def _most(self, trial: Trial) -> int:
        """Return the samples of a class that an order is made of: of others a coded file may hold a few more."""
        return trial.per_class * 5 // 4 + 8 if trial.way.selection == "herding" else trial.per_class

    def _fitting_order(
        self, train: Source, trial: Trial, order_of: Callable[[int], Order], soft: SoftLabels | bool
    ) -> tuple[Order, int]:
        """Return an order of a trial and how many samples of each class fit.

        Samples near the centres of k-means are coded in fewer bits than drawn ones, and windows that follow each other
        share their points. Where all that were asked for fit, more are tried; the order returned is of as many as fit.
        """
        most = self._most(trial)
        order = order_of(most)
        n = self.fit(train, order, trial.way.codec, soft, trial.per_class)
        if trial.way.selection not in ("k-means", "prototypes", "stretch") or self.where.items is not None or n < most:
            return order, n
        largest = int(train.labels.bincount().max()) if train.classes else len(train)
        while n >= most and most < largest:
            most = min(largest, most * 5 // 4 + 1)
            order = order_of(most)
            if max(map(len, order)) <= n:
                break  # there is no longer stretch
            n = self.fit(train, order, trial.way.codec, soft, n)
        order = order_of(max(1, n))
        return order, self.fit(train, order, trial.way.codec, soft, n)

    def _order(self, group: tuple[str, bool, str], draw: int, most: int | None) -> Order:
        """Return a trial's order. Herding draws nothing."""
        selection, natural, _ = group
        key = (selection, natural, str(most), 0 if selection == "herding" else draw)
        if key not in self._orders:
            order = baseline_order(self._fit, selection, self.where.seed, f"trial {key[-1]}", most)
            self._orders[key] = proportional(self._fit, order) if natural else order
        return self._orders[key]

    def _in_proportion(self, train: Source, order: Order, way: RealWay) -> Order:
        return proportional(train, order) if way.natural else order

    def _soft_of(self, group: tuple[str, bool, str]) -> SoftLabels | bool:
        form = group[2]
        if form == "hard":
            return False
        if form not in self._soft:
            self._soft[form] = SoftLabels(self._fit, self._teacher, form)
        return self._soft[form]

    def _labels_of_all(self, way: RealWay) -> SoftLabels:
        if self.rows is None:
            job = TeacherJob(train=self.where.train, make=self.where.make, seed=self.where.seed)
            self.rows = partial(soft_labels, job.network(), next(iter(self.where.executor.map(call, [job]))))
        return SoftLabels(self.where.train, self.rows, way.labels)

    def _halve(self, ways: list[Trial], rounds: Sequence[int]) -> list[Trial]:
        """Return who is left, best first, after rounds of more students for fewer ways."""
        alive = ways
        for students in rounds:
            for trial in alive:
                if not self.is_late:
                    self._train(trial, students)
            alive = [trial for trial in alive if len(trial.rows) >= min(students, max(len(t.rows) for t in alive))]
            alive = sorted(alive, key=lambda t: -t.merit)
            for trial in alive:
                trial.rounds = max(trial.rounds, min(students, len(trial.rows)))
            if students != rounds[-1]:
                left = [t for t in alive if not t.is_behind(alive[0])]
                alive = left[: max(self.space.finalists, -(-len(alive) // 2))]
        return alive

    def _train(self, trial: Trial, students: int) -> None:
        """Train the students that a way lacks, each on a draw of its own."""
        have = len(trial.rows)
        if have >= students:
            return
        for n in range(have, students):  # a draw of a coded file may hold fewer
            made = self._made_for(trial, n)
            scores = self.probe.student_scores(made.pairs, [n], made.texts) * get_task(self.where.train).metric.sign
            trial.rows = scores if not len(trial.rows) else torch.cat([trial.rows, scores])
            trial.bytes, trial.items = max(trial.bytes, made.bytes), made.items
            self.trained += 1
            self._report(self.trained)

    def _made_for(self, trial: Trial, draw: int) -> TrainingSet:
        """Return a draw of a way, as large as fits."""
        soft = self._soft_of(trial.way.group)

        def order_of(most: int) -> Order:
            return self._order(trial.way.group, draw, None if trial.way.selection == "random" else most)

        order, fitting = self._fitting_order(self._fit, trial, order_of, soft)
        trial.per_class = max(trial.per_class, fitting)  # the next draws begin there
        labels = soft if isinstance(soft, SoftLabels) else None
        return pack_samples(self._fit, [order], max(1, fitting), trial.way.codec, labels)

    def _report(self, done: int) -> None:
        most = max(done, self.space.count_students())
        self.say("how to keep real samples", done, most)

    def _put_together(self, alive: Sequence[Trial]) -> None:
        """Try the best selection, proportions and labels together, in the best codec, if they were not yet."""
        leader, rounds = max(alive, key=lambda t: t.merit), self.space.rounds[-1]
        first = self.space.first_group
        parts = list(first)
        for trial in sorted(alive, key=lambda t: t.merit):
            for at, (own, usual) in enumerate(zip(trial.way.group, first, strict=True)):
                base = self.best(selection=first[0], labels=first[2], first=True)
                if own != usual and base is not None and _beats(trial, base):
                    parts[at] = own
        way = self._way((str(parts[0]), bool(parts[1]), str(parts[2])), leader.way.codec)
        if any(t.way == way for t in self.trials):
            return
        if (new := self._new(way, self.trials)) is not None:
            self._train(new, rounds)
            new.rounds = rounds
            self.trials.append(new)


def _beats(trial: Trial, base: Trial) -> bool:
    """Return whether a way scored better, by students if both have some."""
    if len(trial.rows) and len(base.rows):
        return trial.merit > base.merit
    return (trial.screened or 0.0) > (base.screened or 0.0)


def _rank(trial: Trial) -> tuple[int, float]:
    """Order trials: who was in the later round first, then who scored better, with students or without."""
    return -trial.rounds, -trial.score


def _each(train: Source) -> str:
    return " of each class" if train.classes else ""


def space_of(where: BaselineContext, *, labels: Sequence[str] = ("hard",)) -> RealSetSpace:
    """Return the ways to try for a context.

    Args:
        labels: ``hard`` first, and soft ones to try, too.
    """
    expected = estimate_items(where) // count_strata(where.train) * (1 if where.quick else 4)
    found = RealSetSpace.of(
        where.train, where.byte_budget, quick=where.quick, natural=where.proportional, labels=labels,
        expected=max(1, expected),
    )  # fmt: skip
    reads_texts = isinstance(where.make, LearnerFactory) and isinstance(where.make.learner, FitsTexts)
    return replace(found, codecs=((TEXTS,),)) if reads_texts else found


def count_trials(where: BaselineContext, *, labels: Sequence[str] = ("hard",)) -> int:
    """Return the maximum number of trial students of a search; arguments as for `space_of`."""
    return space_of(where, labels=labels).count_students()
