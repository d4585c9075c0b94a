"""Difficulty that is told from many small models: which of them get each sample right."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Num
from torch import Tensor

from potstill.core import Asset, Problem
from potstill.functional.difficulty import evenly_spaced
from potstill.functional.pruning import Keep
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["BySubjects"]


@dataclass(frozen=True, kw_only=True)
class BySubjects(ByRecord):
    """Abstract: the models are the networks of several trainings, each after some of its epochs."""

    positive: ClassVar[tuple[str, ...]] = ("part",)

    keep: Keep = "stratified"
    """Ours: as many of each degree of difficulty. Easy2Hard publishes ratings, not a choice."""
    runs: int = 8
    """Models, each from another beginning and on another part of the data. Ours."""
    part: float = 0.5
    """The part of each class that a model is trained on, above 0; 1 and more is all."""
    checkpoints: int = 5
    """Epochs of each training, evenly spaced, whose networks are models of their own; in Glicko-2 rating periods."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return () if "scores" in problem.assets else (self.spec(part=self.part),)

    def answers(self, problem: Problem) -> Num[Tensor, "runs checkpoints n"]:
        """Which samples each model gets right."""
        return evenly_spaced(record_of(problem).series("correct"), self.checkpoints)
