"""Scores from the answers of many small models (item response theory, Glicko-2).

Models are the networks of ``runs`` trainings after some of their epochs, each trained on another part of the data, so
that many answers are on samples that the model has not seen.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Num
from torch import Tensor

from potstill.core import Asset, PositiveFloat, Presets, Problem
from potstill.functional.difficulty import evenly_spaced
from potstill.functional.pruning import Keep
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["ManyModelScore"]


@dataclass(frozen=True, kw_only=True)
class ManyModelScore(RecordScore):
    """Abstract: a score from which of many models get each sample right."""

    presets: ClassVar[Presets] = {"quick": {"runs": 4, "record_epochs": 10}}

    keep: Keep = "stratified"
    """Ours: equally many of each degree of difficulty. Easy2Hard publishes ratings, not a selection."""
    runs: int = 8
    """Trainings, each from other initial weights and on another part of the data. Ours."""
    train_fraction: PositiveFloat = 0.5
    """Fraction of each class that a model is trained on, above 0; 1 and more is all."""
    checkpoints: int = 5
    """Evenly spaced epochs of each training whose networks are models of their own; rating periods in Glicko-2."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return () if "scores" in problem.assets else (self.record_asset(part=self.train_fraction),)

    def answers(self, problem: Problem) -> Num[Tensor, "runs checkpoints n"]:
        """Return 1 for every sample that a model gets right, else 0."""
        return evenly_spaced(get_record(problem).series("correct"), self.checkpoints)
