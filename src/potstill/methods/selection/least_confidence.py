r"""Least confidence: samples of whose best class a trained network is least sure.

Lewis and Gale, SIGIR 1994; for pruning labelled data, selection via proxy (Coleman et al., ICLR 2020,
arXiv:1906.11829).

.. math::
    s(x) = 1 - \max_c p_c(x)

Labels are not used: a wrongly labelled sample that the network is sure of counts as easy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, last_epoch

__all__ = ["LeastConfidence"]


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(RecordScore):
    """Real samples of whose class a trained network is least sure."""

    info: ClassVar[MethodInfo] = selection_info(
        "Least confidence (selection via proxy)",
        "SIGIR 1994; arXiv:1906.11829",
        2020,
        class_independence="deletion",
        use_when="Take it to leave a smaller part out of clean data: at more than half kept it was a little above "
        "random samples.",
        avoid_when="Avoid it for small sets and noisy labels, where it was far below random samples: it keeps the "
        "border and little else.",
        related=("margin", "entropy", "el2n"),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"least_confidence": last_epoch(problem, "least_confidence")}
