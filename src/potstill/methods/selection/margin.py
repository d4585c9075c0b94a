r"""Margin: the samples whose two best classes lie closest together.

Scheffer et al., IDA 2001; for pruning labelled data, Coleman et al., ICLR 2020, arXiv:1906.11829.

.. math::
    s(x) = p_{(1)}(x) - p_{(2)}(x)

A small margin is hard. The label is not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["Margin"]


@dataclass(frozen=True, kw_only=True)
class Margin(ByRecord):
    """Real samples between whose two best classes a trained network can hardly decide."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Margin (selection via proxy)",
        paper="IDA 2001; arXiv:1906.11829",
        year=2020,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = record_of(problem)
        return {"margin": record.after("gap", record.epochs).mean(0)}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["margin"]
