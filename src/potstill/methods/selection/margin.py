"""Margin: samples whose two most probable classes lie closest together.

Scheffer et al., IDA 2001; for pruning labelled data, selection via proxy (Coleman et al., ICLR 2020, arXiv:1906.11829).

.. math::
    s(x) = p_{(1)}(x) - p_{(2)}(x)

A small margin is hard. Labels are not used: a wrongly labelled sample that the network is sure of counts as easy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, last_epoch

__all__ = ["Margin"]


@dataclass(frozen=True, kw_only=True)
class Margin(RecordScore):
    """Real samples between whose two best classes a trained network can hardly decide."""

    info: ClassVar[MethodInfo] = selection_info(
        "Margin (selection via proxy)",
        "IDA 2001; arXiv:1906.11829",
        2020,
        class_independence="deletion",
        use_when="Take it as least-confidence, where pairs of classes are confused: it looks at the two likeliest "
        "alone.",
        avoid_when="Avoid it for small sets, and for samples that resemble many classes; it was far below random "
        "samples at a tenth kept.",
        related=("least-confidence", "entropy", "grand"),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"margin": last_epoch(problem, "gap")}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["margin"]
