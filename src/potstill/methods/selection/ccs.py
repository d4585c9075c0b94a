r"""CCS, coverage-centric selection: leave out the hardest, then spread the budget over all degrees of difficulty.

Zheng et al., ICLR 2023, arXiv:2210.15809, algorithm 1.

The part β of the hardest samples goes first; what is left is cut into strata of equal width in the score, and the least
filled stratum is asked first for an equal share of what is still to be chosen, at random within it. The score is the
area under the margin, as in the paper's experiments: of probabilities, as in its released code
(generate_importance_score.py:94-108), where AUM's paper takes logits. That code chooses among all samples at once,
which is ``pool = "global"``. β was searched for each rate of pruning (CIFAR-10: 0, 10, 10, 20
and 30 % for 30, 50, 70, 80 and 90 % pruned); here it is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.pruning import Keep
from potstill.functional.training_dynamics import aum
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["CCS"]


@dataclass(frozen=True, kw_only=True)
class CCS(ByRecord):
    """Real samples of every degree of difficulty but the highest."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Coverage-centric coreset selection",
        paper="arXiv:2210.15809",
        year=2023,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )

    keep: Keep = "stratified"
    """Strata over the score (algorithm 1)."""
    cut: float = 0.2
    """β: the part of the hardest that is left out (the paper: 0 to 0.3, more for smaller sets)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"ccs": aum(record_of(problem).series("probability_margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["ccs"]
