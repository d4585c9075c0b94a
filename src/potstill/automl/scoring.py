"""Candidates under way, and the students that compare them in pairs: the same starts, orders and held-out samples for
each candidate."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from potstill.automl.candidates import Candidate
from potstill.automl.resume import Journal
from potstill.dataset_file import Distilled
from potstill.evaluation.candidate_trials import Probe, paired_loss
from potstill.runs.resolve import ResolvedRun

__all__ = ["Entry", "Judge", "is_behind", "num_students"]

SURE = 0.9
"""One-sided confidence that a candidate is behind, above which it is dropped."""


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate and what has become of it."""

    candidate: Candidate
    run: ResolvedRun | None = None
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
    """``steps``, ``accuracy`` and ``students`` of each rung."""
    correct_rows: list[Bool[Tensor, " held"]] = dataclasses.field(default_factory=list)
    """By student of the current set: which of the choosing samples it classified correctly."""
    judged_steps: int = 0
    """Steps of the set that they learned."""
    left_out: str | None = None
    """Why it is none any more."""

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the students of the current set, a fraction."""
        return float(torch.stack(self.correct_rows).double().mean())

    @property
    def gain(self) -> float:
        """From one rung to the next when last asked, as a fraction; infinite before it was asked twice."""
        known = [r["accuracy"] for r in self.rungs if r["accuracy"] is not None]
        return known[-1] - known[-2] if len(known) > 1 else math.inf

    def end_rung(self) -> None:
        """Keep what was said of it in the rung that ends."""
        asked = self.judged_steps == self.steps
        accuracy, students = (self.accuracy, len(self.correct_rows)) if asked else (None, 0)
        self.rungs.append({"steps": self.steps, "accuracy": accuracy, "students": students})


def num_students(rung: int, most: int) -> int:
    """Students of a candidate in a rung: one more in each, ``most`` at most, as fewer candidates share them."""
    return min(most, 1 + rung)


def is_behind(other: Entry, leader: Entry, hope: float = 0.0) -> bool:
    """Tell whether a candidate is behind the leader by more than noise and than ``hope``, a fraction."""
    shared = min(len(other.correct_rows), len(leader.correct_rows))
    if other is leader or shared == 0:
        return False
    loss = paired_loss(
        torch.stack(leader.correct_rows[:shared]), torch.stack(other.correct_rows[:shared]), confidence=SURE
    )
    return loss.low > hope


@dataclasses.dataclass(kw_only=True)
class Judge:
    """Students by number, and what they cost. What they said is in the journal: it is not asked twice."""

    probe: Probe
    """With all held-out samples."""
    choosing: Int[Tensor, " c"]
    """Those of them that choose."""
    confirming: Int[Tensor, " f"]
    """Those that nothing is chosen on until a winner is there."""
    journal: Journal
    seconds: Callable[[], float]
    cost: float = 0.0
    """Seconds of a student, the mean of those that were trained here."""
    trained: int = 0

    def correct_by_students(self, entry: Entry, number: int, students: Sequence[int]) -> Bool[Tensor, "students held"]:
        """Which held-out samples each student gets right that learned the entry's set.

        Args:
            number: of the entry.
        """
        rows, columns = len(students), len(self.probe.held_out)

        def message() -> str:
            assert entry.distilled is not None
            begun, device = self.seconds(), self.probe.held_out.device
            pair = (entry.distilled.model_space().to(device), entry.distilled.labels.to(device))
            right = self.probe.correct([[pair]], students=students)[0]
            took = self.seconds() - begun
            self.cost = (self.cost * self.trained + took) / (self.trained + rows)
            self.trained += rows
            return np.packbits(right.numpy()).tobytes().hex()

        named = f"students {students[0]} to {students[-1]} of {number} after {entry.steps}"
        bits = np.frombuffer(bytes.fromhex(self.journal.once(named, message, self.seconds)), np.uint8)
        return torch.from_numpy(np.unpackbits(bits, count=rows * columns).reshape(rows, columns).astype(bool))

    def train_missing(self, entry: Entry, number: int, most: int) -> None:
        """Ask as many students as are still missing to ``most`` about the entry, on the part that chooses."""
        if len(entry.correct_rows) < most:
            right = self.correct_by_students(entry, number, range(len(entry.correct_rows), most))
            entry.correct_rows += list(right[:, self.choosing])
            entry.judged_steps = entry.steps
