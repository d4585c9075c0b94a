r"""EL2N: the samples with the largest error early in training.

Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075, definition 2.2.

.. math::
    s(x, y) = \mathbb{E}_w \lVert p(w, x) - \mathrm{onehot}(y) \rVert_2

The expectation is over networks trained for a few epochs from different beginnings (the paper: ten, after epoch 10 or
20 of 200). Only those epochs are trained; the schedule is that of the whole training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["EL2N"]


@dataclass(frozen=True, kw_only=True)
class EL2N(ByRecord):
    """Real samples with the largest error early in training."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="EL2N: error norm early in training",
        paper="arXiv:2107.07075",
        year=2021,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )

    runs: int = 5
    """Independent trainings, over which the error is averaged (the paper: 10)."""
    epoch: int = 3
    """After which epoch to look: a tenth of ``epochs_recorded`` (the paper: 20 of 200)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return () if "scores" in problem.assets else (self.spec(until=self.epoch),)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"el2n": record_of(problem).after("el2n", self.epoch).mean(0)}
