r"""Entropy: samples over which a trained network's probabilities are spread most.

Shannon 1948; Settles 2009; for pruning labelled data, selection via proxy (Coleman et al., ICLR 2020,
arXiv:1906.11829).

.. math::
    s(x) = -\sum_c p_c(x) \log p_c(x)

Labels are not used: a wrongly labelled sample that the network is sure of counts as easy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, last_epoch

__all__ = ["Entropy"]


@dataclass(frozen=True, kw_only=True)
class Entropy(RecordScore):
    """Real samples over which a trained network's probabilities are spread most."""

    info: ClassVar[MethodInfo] = selection_info(
        "Entropy (selection via proxy)",
        "Settles 2009; arXiv:1906.11829",
        2020,
        class_independence="deletion",
        use_when="Take it as least-confidence, where many classes compete for one sample: it counts all of them.",
        avoid_when="Avoid it below a third kept, and with wrong labels: it was far below random samples in both.",
        related=("least-confidence", "margin", "contextual-diversity"),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"entropy": last_epoch(problem, "entropy")}
