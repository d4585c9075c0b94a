r"""Entropy: the samples over which the trained network's probabilities are spread most.

Shannon 1948; for choosing samples, Settles 2009; for pruning labelled data, Coleman et al., ICLR 2020,
arXiv:1906.11829.

.. math::
    s(x) = -\sum_c p_c(x) \log p_c(x)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["Entropy"]


@dataclass(frozen=True, kw_only=True)
class Entropy(ByRecord):
    """Real samples over which a trained network's probabilities are spread most."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Entropy (selection via proxy)",
        paper="Settles 2009; arXiv:1906.11829",
        year=2020,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = record_of(problem)
        return {"entropy": record.after("entropy", record.epochs).mean(0)}
