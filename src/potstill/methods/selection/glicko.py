r"""Glicko-2: difficulty of samples as a rating, from games of samples against many small models.

Glickman, "Example of the Glicko-2 system", 2012, for training data as in Easy2Hard-Bench, NeurIPS 2024,
arXiv:2409.18433.

.. math::
    \mu' = \mu + \phi'^2 \sum_j g(\phi_j) \big( s_j - E(\mu, \mu_j, \phi_j) \big)

A sample wins a game against a model that gets it wrong (`_many_models`). Each of ``checkpoints`` epochs is a rating
period, after which models and samples are rated anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.difficulty import rate_samples
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._many_models import ManyModelScore

__all__ = ["Glicko"]


@dataclass(frozen=True, kw_only=True)
class Glicko(ManyModelScore):
    """Real samples of every degree of difficulty, as Glicko-2 rates it."""

    info: ClassVar[MethodInfo] = selection_info(
        "Glicko-2 ratings",
        "glicko.net/glicko/glicko2.pdf; arXiv:2409.18433",
        2024,
        class_independence="deletion",
        use_when="Take it as irt, where models come one after another and each rating needs its own uncertainty.",
        avoid_when="Avoid it if accuracy alone counts: as with irt, sets were no better than random samples here, "
        "and small clean ones of pictures were worse.",
        related=("irt", "ccs", "stratified"),
    )

    tau: float = 0.5
    """τ: how much volatility may change (Glickman: 0.3 to 1.2)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        ratings = rate_samples(self.answers(problem).transpose(0, 1), self.tau)
        return {"glicko_rating": ratings.rating, "glicko_deviation": ratings.deviation}
