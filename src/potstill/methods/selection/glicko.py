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

from potstill.core import MethodInfo, Presets, Problem
from potstill.functional.difficulty import rate_samples
from potstill.methods.selection._subjects import BySubjects

__all__ = ["Glicko"]


@dataclass(frozen=True, kw_only=True)
class Glicko(BySubjects):
    """Real samples of every degree of difficulty, as Glicko-2 rates it."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Glicko-2 ratings",
        paper="glicko.net/glicko/glicko2.pdf; arXiv:2409.18433",
        year=2024,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )
    presets: ClassVar[Presets] = {
        "quick": {"runs": 4, "epochs_recorded": 10},
    }

    tau: float = 0.5
    """τ, how much volatility may change (Glickman: 0.3 to 1.2)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        rated = rate_samples(self.answers(problem).transpose(0, 1), self.tau)
        return {"glicko_rating": rated.rating, "glicko_deviation": rated.deviation}
