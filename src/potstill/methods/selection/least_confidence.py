r"""Least confidence: the samples of whose best class the trained network is least sure.

Lewis and Gale, SIGIR 1994; for pruning labelled data with a small proxy, Coleman et al., ICLR 2020, arXiv:1906.11829.

.. math::
    s(x) = 1 - \max_c p_c(x)

The label is not looked at: a wrongly labelled sample of which the network is sure counts as easy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["LeastConfidence"]


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(ByRecord):
    """Real samples of whose class a trained network is least sure."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Least confidence (selection via proxy)",
        paper="SIGIR 1994; arXiv:1906.11829",
        year=2020,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = record_of(problem)
        return {"least_confidence": record.after("least_confidence", record.epochs).mean(0)}
