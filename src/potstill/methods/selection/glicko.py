r"""Glicko-2: difficulty as a rating, from games of samples against models.

Glickman, "Example of the Glicko-2 system" (2012); for the difficulty of samples, Easy2Hard-Bench, NeurIPS 2024,
arXiv:2409.18433.

.. math::
    \mu' = \mu + \phi'^2 \sum_j g(\phi_j) \big( s_j - E(\mu, \mu_j, \phi_j) \big)

A sample wins a game against a model that gets it wrong. Models are the networks of ``runs`` trainings, each on another
part of the data; each of ``checkpoints`` epochs is a rating period, after which models and samples are rated anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import AssetSpec, MethodInfo, Problem
from potstill.functional.difficulty import rate_samples, spaced
from potstill.functional.pruning import Keep
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["Glicko"]


@dataclass(frozen=True, kw_only=True)
class Glicko(ByRecord):
    """Real samples of every degree of difficulty, as Glicko-2 rates it."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Glicko-2 ratings",
        paper="glicko.net/glicko/glicko2.pdf; arXiv:2409.18433",
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
    """Rating periods: epochs of each training, evenly spaced."""
    tau: float = 0.5
    """τ, how much volatility may change (Glickman: 0.3 to 1.2)."""

    def assets(self, problem: Problem) -> tuple[AssetSpec, ...]:
        return () if "scores" in problem.assets else (self.spec(part=self.part),)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        correct = spaced(record_of(problem).series("correct"), self.checkpoints)
        rated = rate_samples(correct.transpose(0, 1), self.tau)
        return {"glicko_rating": rated.rating, "glicko_deviation": rated.deviation}
