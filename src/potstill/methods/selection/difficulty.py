r"""Difficulty of samples from the answers of many small models, for Easy2Hard-Bench (NeurIPS 2024, arXiv:2409.18433).

Models m are the networks of ``runs`` trainings after some of their epochs, each trained on another part of the data, so
that many answers are on samples that the model has not seen.

IRT: two-parameter item response theory (Birnbaum 1968; Bock and Aitkin 1981). b is a sample's difficulty, s its
discrimination, negative if better models get it wrong more often, as with wrong labels:

.. math::
    P(R_{mi} = 1) = \sigma\big( s_i (a_m - b_i) \big)

Glicko-2 (Glickman, "Example of the Glicko-2 system", 2012): a sample wins a game against a model that gets it wrong;
each of ``checkpoints`` epochs is a rating period, after which models and samples are rated anew:

.. math::
    \mu' = \mu + \phi'^2 \sum_j g(\phi_j) \big( s_j - E(\mu, \mu_j, \phi_j) \big)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Num
from torch import Tensor

from potstill.core import Asset, MethodInfo, Presets, Problem
from potstill.functional.difficulty import evenly_spaced, item_response, rate_samples
from potstill.functional.pruning import Keep
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["IRT", "Glicko"]


@dataclass(frozen=True, kw_only=True)
class ManyModelScore(RecordScore):
    """Abstract: a score from which of many models get each sample right."""

    presets: ClassVar[Presets] = {"quick": {"runs": 4, "record_epochs": 10}}
    positive: ClassVar[tuple[str, ...]] = ("train_fraction",)

    keep: Keep = "stratified"
    """Ours: equally many of each degree of difficulty. Easy2Hard publishes ratings, not a selection."""
    runs: int = 8
    """Trainings, each from other initial weights and on another part of the data. Ours."""
    train_fraction: float = 0.5
    """Fraction of each class that a model is trained on, above 0; 1 and more is all."""
    checkpoints: int = 5
    """Evenly spaced epochs of each training whose networks are models of their own; rating periods in Glicko-2."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return () if "scores" in problem.assets else (self.record_asset(part=self.train_fraction),)

    def answers(self, problem: Problem) -> Num[Tensor, "runs checkpoints n"]:
        """Return 1 for every sample that a model gets right, else 0."""
        return evenly_spaced(get_record(problem).series("correct"), self.checkpoints)


@dataclass(frozen=True, kw_only=True)
class IRT(ManyModelScore):
    """Real samples of every degree of difficulty, as item response theory estimates it."""

    info: ClassVar[MethodInfo] = selection_info(
        "Item response theory (2PL)", "Psychometrika 46, 1981; arXiv:2409.18433", 2024
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        items = item_response(self.answers(problem).flatten(0, 1))
        return {"irt_difficulty": items.difficulty, "irt_discrimination": items.discrimination}


@dataclass(frozen=True, kw_only=True)
class Glicko(ManyModelScore):
    """Real samples of every degree of difficulty, as Glicko-2 rates it."""

    info: ClassVar[MethodInfo] = selection_info(
        "Glicko-2 ratings", "glicko.net/glicko/glicko2.pdf; arXiv:2409.18433", 2024
    )

    tau: float = 0.5
    """τ: how much volatility may change (Glickman: 0.3 to 1.2)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        ratings = rate_samples(self.answers(problem).transpose(0, 1), self.tau)
        return {"glicko_rating": ratings.rating, "glicko_deviation": ratings.deviation}
