r"""CCS, coverage-centric selection: the hardest samples are dropped, and the budget is spread over the other strata.

Zheng et al., ICLR 2023, arXiv:2210.15809, algorithm 1.

.. math::
    s(x, y) = \tfrac{1}{T} \sum_t \big( p_y^{(t)}(x) - \max_{c \neq y} p_c^{(t)}(x) \big)

The hardest fraction β is dropped, the rest divided into strata of equal width in the score, and the least filled
stratum is asked first for an equal share of the remaining budget, at random within it. The score is the area under the
margin of probabilities, as in the released code (generate_importance_score.py:94-108), where AUM's paper takes logits.
That code selects among all samples at once, which is ``pool="global"``. β was searched for each pruning rate (CIFAR-10:
0, 10, 10, 20 and 30 % for 30, 50, 70, 80 and 90 % pruned); here it is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem, UnitFloat
from potstill.functional.pruning import Keep
from potstill.functional.training_dynamics import aum
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["CCS"]


@dataclass(frozen=True, kw_only=True)
class CCS(RecordScore):
    """Real samples of every degree of difficulty but the highest."""

    info: ClassVar[MethodInfo] = selection_info(
        "Coverage-centric coreset selection",
        "arXiv:2210.15809",
        2023,
        class_independence="deletion",
        use_when="Take it where many samples go and labels may be wrong: it drops the hardest and covers the rest, "
        "and was ahead on noisy pictures.",
        avoid_when="Avoid it where most of clean data is kept: the hard part that it drops is then worth having.",
        related=("aum", "el2n", "stratified"),
    )

    keep: Keep = "stratified"
    """Strata over the score (algorithm 1)."""
    cut: UnitFloat = 0.2
    """β: fraction of the hardest samples that is dropped (the paper: 0 to 0.3, more for smaller sets)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"ccs": aum(get_record(problem).series("probability_margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["ccs"]
