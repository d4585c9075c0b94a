r"""Selection via proxy: the samples of which a trained network is least certain (Coleman et al., ICLR 2020,
arXiv:1906.11829, for pruning labelled data). Labels are not used: a wrongly labelled sample that the network is sure
of counts as easy.

Least confidence (Lewis and Gale, SIGIR 1994), entropy (Shannon 1948; Settles 2009), margin (Scheffer et al., IDA 2001):

.. math::
    s(x) = 1 - \max_c p_c(x), \qquad s(x) = -\sum_c p_c(x) \log p_c(x), \qquad s(x) = p_{(1)}(x) - p_{(2)}(x)

A small margin is hard.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["Entropy", "LeastConfidence", "Margin"]


def _last_epoch(problem: Problem, series: str) -> Tensor:
    """Return a recorded number of every sample (n,) after the last epoch, averaged over runs."""
    record = get_record(problem)
    return record.after(series, record.epochs).mean(0)


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(RecordScore):
    """Real samples of whose class a trained network is least sure."""

    info: ClassVar[MethodInfo] = selection_info(
        "Least confidence (selection via proxy)", "SIGIR 1994; arXiv:1906.11829", 2020
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"least_confidence": _last_epoch(problem, "least_confidence")}


@dataclass(frozen=True, kw_only=True)
class Entropy(RecordScore):
    """Real samples over which a trained network's probabilities are spread most."""

    info: ClassVar[MethodInfo] = selection_info("Entropy (selection via proxy)", "Settles 2009; arXiv:1906.11829", 2020)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"entropy": _last_epoch(problem, "entropy")}


@dataclass(frozen=True, kw_only=True)
class Margin(RecordScore):
    """Real samples between whose two best classes a trained network can hardly decide."""

    info: ClassVar[MethodInfo] = selection_info("Margin (selection via proxy)", "IDA 2001; arXiv:1906.11829", 2020)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"margin": _last_epoch(problem, "gap")}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["margin"]
