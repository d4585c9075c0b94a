r"""Area under the margin, and coverage-centric selection by it.

AUM (Pleiss et al., NeurIPS 2020, arXiv:2001.10528, equations 1 and 2):

.. math::
    s(x, y) = \tfrac{1}{T} \sum_t \big( z_y^{(t)}(x) - \max_{c \neq y} z_c^{(t)}(x) \big)

z are logits. The paper finds wrong labels by a low area and drops them; the default here keeps the easiest. The paper's
threshold samples, which estimate the number of wrong labels, are not made: the budget decides.

CCS (Zheng et al., ICLR 2023, arXiv:2210.15809, algorithm 1) drops the hardest fraction β, divides the rest into strata
of equal width in the score, and asks the least filled stratum first for an equal share of the remaining budget, at
random within it. Its score is the area under the margin of probabilities, as in its released code
(generate_importance_score.py:94-108), where AUM's paper takes logits. That code selects among all samples at once,
which is ``pool="global"``. β was searched for each pruning rate (CIFAR-10: 0, 10, 10, 20 and 30 % for 30, 50, 70, 80
and 90 % pruned); here it is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.pruning import Keep
from potstill.functional.training_dynamics import aum
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["AUM", "CCS"]


@dataclass(frozen=True, kw_only=True)
class AUM(RecordScore):
    """Real samples whose label the network agrees with soonest and most."""

    info: ClassVar[MethodInfo] = selection_info("AUM: area under the margin", "arXiv:2001.10528", 2020)

    keep: Keep = "easiest"
    """Samples to keep: the paper drops those of the lowest area; see the other scores for the choices."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"aum": aum(get_record(problem).series("margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["aum"]


@dataclass(frozen=True, kw_only=True)
class CCS(RecordScore):
    """Real samples of every degree of difficulty but the highest."""

    info: ClassVar[MethodInfo] = selection_info("Coverage-centric coreset selection", "arXiv:2210.15809", 2023)

    keep: Keep = "stratified"
    """Strata over the score (algorithm 1)."""
    cut: float = 0.2
    """β: fraction of the hardest samples that is dropped (the paper: 0 to 0.3, more for smaller sets)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"ccs": aum(get_record(problem).series("probability_margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["ccs"]
