r"""IRT: difficulty as a test estimates it, from which of many small models get a sample right.

Two-parameter item response theory (Birnbaum 1968; Bock and Aitkin 1981); for training data, Easy2Hard-Bench, NeurIPS
2024, arXiv:2409.18433.

.. math::
    P(R_{mi} = 1) = \sigma\big( s_i (a_m - b_i) \big)

Subjects m are the networks of ``runs`` trainings after some of their epochs, each trained on another part of the data,
so that a good share of their answers is on samples they have not seen. b is a sample's difficulty, s its
discrimination: negative where better models get it wrong more often, as with wrong labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import AssetSpec, MethodInfo, Problem
from potstill.functional.difficulty import item_response, spaced
from potstill.functional.pruning import Keep
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["IRT"]


@dataclass(frozen=True, kw_only=True)
class IRT(ByRecord):
    """Real samples of every degree of difficulty, as item response theory estimates it."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Item response theory (2PL)",
        paper="Psychometrika 46, 1981; arXiv:2409.18433",
        year=2024,
        family="selection",
        selects=True,
        kinds=("*",),
    )

    positive: ClassVar[tuple[str, ...]] = ("part",)

    keep: Keep = "stratified"
    """Ours: as many of each degree of difficulty. Easy2Hard publishes ratings, not a choice."""
    runs: int = 8
    """Models, each from another beginning and on another part of the data. Ours."""
    part: float = 0.5
    """The part of each class that a model is trained on, above 0; 1 and more is all."""
    checkpoints: int = 5
    """Epochs of each training, evenly spaced, whose networks are subjects of their own."""

    def assets(self, problem: Problem) -> tuple[AssetSpec, ...]:
        return () if "scores" in problem.assets else (self.spec(part=self.part),)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        correct = spaced(record_of(problem).series("correct"), self.checkpoints)
        found = item_response(correct.flatten(0, 1))
        return {"irt_difficulty": found.difficulty, "irt_discrimination": found.discrimination}
