"""Candidates under way, and the students that compare them in pairs: the same starts, orders and held-out samples for
each candidate.

Merits are numbers of which more is better: correct samples for classes; for other tasks the score of each block of
held-out samples, with the metric's sign, over the score of a student that knows nothing.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from potstill.automl.candidates import Candidate
from potstill.automl.resume import Journal, pack_rows, unpack_rows
from potstill.core import Source
from potstill.core.nested import tree_map
from potstill.data.groups import get_groups
from potstill.data.series import SeriesSource
from potstill.data.splits import stratify
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Probe, paired_loss
from potstill.runs.resolve import ResolvedRun
from potstill.tasks import Classification, get_targets, get_task

__all__ = ["Entry", "HeldOut", "Judge", "is_behind", "num_students"]

SURE = 0.9
"""One-sided confidence that a candidate is behind, above which it is dropped."""
BLOCKS, LEAST_BLOCK = 16, 12
"""Maximum number of blocks of a half of the held-out samples, and the fewest samples of one, where samples are not
scored one by one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Held-out samples in two halves: one chooses, nothing is chosen on the other until a winner is there."""

    source: Source
    choosing: Int[Tensor, " c"]
    confirming: Int[Tensor, " f"]
    singly: bool = False
    """Score samples one by one where they are scored in blocks otherwise."""

    @classmethod
    def split(cls, source: Source, seed: int) -> "HeldOut":
        """Return the halves: stratified by class, groups kept whole; by time for a series."""
        if isinstance(source, SeriesSource):
            before, after = source.cut(0.5)
            choosing, confirming = (torch.where(torch.isin(source.starts, half.starts))[0] for half in (before, after))
            return cls(source=source, choosing=choosing, confirming=confirming)
        choosing, confirming = stratify(source.labels, 0.5, seed, get_groups(source))
        if len(choosing) == 0 or len(confirming) == 0:
            raise PotstillError(
                f"{source.name}: auto needs held-out samples to choose and others to confirm, but there are "
                f"{len(source)}; raise validation, or name a method"
            )
        return cls(source=source, choosing=choosing, confirming=confirming)

    def without(self, inside: Bool[Tensor, " n"]) -> "HeldOut":
        """Return the halves without some samples of the source."""
        choosing, confirming = (half[~inside[half]] for half in (self.choosing, self.confirming))
        return dataclasses.replace(self, choosing=choosing, confirming=confirming)

    @cached_property
    def parts(self) -> tuple[Int[Tensor, " _"], ...]:
        """Indices of the samples that are scored together: single samples of classes, else blocks of a half."""
        if self.singly or isinstance(get_task(self.source), Classification):
            return tuple(torch.arange(len(self.source)).unsqueeze(1))
        halves = (self.choosing, self.confirming)
        return tuple(
            block for half in halves for block in half.tensor_split(max(1, min(BLOCKS, len(half) // LEAST_BLOCK)))
        )

    @cached_property
    def columns(self) -> tuple[Int[Tensor, " c"], Int[Tensor, " f"]]:
        """Places in `parts` of those that choose and of those that confirm."""
        if self.singly or isinstance(get_task(self.source), Classification):
            return self.choosing, self.confirming
        member = torch.zeros(len(self.source), dtype=torch.bool)
        member[self.choosing] = True
        choosing = torch.tensor([bool(member[part[0]]) for part in self.parts])
        return torch.where(choosing)[0], torch.where(~choosing)[0]

    @cached_property
    def scale(self) -> float:
        """Score of a student that knows nothing, by which scores are divided; 1 for fractions."""
        task = get_task(self.source)
        if task.metric.unit == "fraction":
            return 1.0
        return abs(task.chance_score(get_targets(self.source))) or 1.0

    @property
    def sign(self) -> int:
        """1 where higher scores are better, −1 where lower ones are."""
        return get_task(self.source).metric.sign

    def merits(self, answers: Tensor | None) -> Float[Tensor, " parts"]:
        """Return the merit of each part of one student's answers; ``None``: it diverged."""
        task, targets = get_task(self.source), get_targets(self.source)
        if isinstance(task, Classification):
            nothing = torch.zeros(len(self.source), dtype=torch.float64)
            return nothing if answers is None else (answers.cpu() == self.source.labels).double()
        found = [
            task.chance_score(targets[part]) if answers is None else task.score(answers.cpu()[part], targets[part])
            for part in self.parts
        ]
        return torch.tensor(found, dtype=torch.float64) * (task.metric.sign / self.scale)

    def format(self, merit: float) -> str:
        """Return a merit as a score for people."""
        metric = get_task(self.source).metric
        return metric.format(metric.sign * merit * self.scale)

    def format_gain(self, gain: float) -> str:
        """Return a difference of merits as one of scores, for people: points of a fraction."""
        metric = get_task(self.source).metric
        shown = metric.format_difference(metric.sign * gain * self.scale)
        return f"{shown} points" if metric.unit == "fraction" else shown


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate and what has become of it."""

    candidate: Candidate
    run: ResolvedRun | None = None
    planned_bytes: int | None = None
    """Bytes that its inputs are planned by; ``None``: those of the budget."""
    distilled: Distilled | None = None
    steps: int = 0
    """Made until now."""
    cost: float = 0.0
    """Seconds of a step."""
    setup: float = 0.0
    """Seconds before the first step, and to write the set."""
    stopped: bool = False
    """It cannot go on: it diverged or is finished."""
    rungs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """``steps``, ``merit`` and ``students`` of each rung."""
    merit_rows: list[Tensor] = dataclasses.field(default_factory=list)
    """By student of the current set: its merit on each part of the samples that choose."""
    judged_steps: int = 0
    """Steps of the set that they learned."""
    left_out: str | None = None
    """Why it is none any more."""

    @property
    def merit(self) -> float:
        """Mean merit of the students of the current set: the accuracy, a fraction, for classes."""
        return float(torch.stack(self.merit_rows).double().mean())

    @property
    def gain(self) -> float:
        """From one rung to the next when last measured, as a fraction; infinite before it was measured twice."""
        known = [r["merit"] for r in self.rungs if r["merit"] is not None]
        return known[-1] - known[-2] if len(known) > 1 else math.inf

    def end_rung(self) -> None:
        """Store its result in the rung that ends."""
        asked = self.judged_steps == self.steps
        merit, students = (self.merit, len(self.merit_rows)) if asked else (None, 0)
        self.rungs.append({"steps": self.steps, "merit": merit, "students": students})


def num_students(rung: int, most: int) -> int:
    """Students of a candidate in a rung: one more in each, ``most`` at most, as fewer candidates share them."""
    return min(most, 1 + rung)


def is_behind(other: Entry, leader: Entry, hope: float = 0.0) -> bool:
    """Tell whether a candidate is behind the leader by more than noise and than ``hope``, a fraction."""
    shared = min(len(other.merit_rows), len(leader.merit_rows))
    if other is leader or shared == 0:
        return False
    loss = paired_loss(torch.stack(leader.merit_rows[:shared]), torch.stack(other.merit_rows[:shared]), confidence=SURE)
    return loss.low > hope


@dataclasses.dataclass(kw_only=True)
class Judge:
    """Students by number, and what they cost. Their answers are in the journal: none is trained twice."""

    probe: Probe
    """With all held-out samples."""
    held_out: HeldOut
    journal: Journal
    seconds: Callable[[], float]
    cost: float = 0.0
    """Seconds of a student, the mean of those that were trained here."""
    trained: int = 0

    def merits_by_students(
        self, entry: Entry, number: int | str, students: Sequence[int]
    ) -> Float[Tensor, "students parts"]:
        """Merits, on each part of the held-out samples, of students that learned the entry's set.

        Args:
            number: of the entry; a word for one that is in no list.
        """

        def ask() -> str:
            assert entry.distilled is not None
            begun, device = self.seconds(), self.probe.held_out.device
            x = tree_map(lambda t: t.to(device), entry.distilled.model_space())
            answers = self.probe.predict([[(x, entry.distilled.labels.to(device))]], students=students)[0]
            took = self.seconds() - begun
            self.cost = (self.cost * self.trained + took) / (self.trained + len(students))
            self.trained += len(students)
            return pack_rows(torch.stack([self.held_out.merits(said) for said in answers]))

        named = f"students {students[0]} to {students[-1]} of {number} after {entry.steps}"
        kept = self.journal.once(named, ask, self.seconds)
        return unpack_rows(kept, (len(students), len(self.held_out.parts)))

    def train_missing(self, entry: Entry, number: int | str, most: int) -> None:
        """Ask as many students as are still missing to ``most`` about the entry, on the part that chooses."""
        if len(entry.merit_rows) < most:
            merits = self.merits_by_students(entry, number, range(len(entry.merit_rows), most))
            entry.merit_rows += list(merits[:, self.held_out.columns[0]])
            entry.judged_steps = entry.steps
