r"""EL2N: samples with the largest error early in training.

Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075, definition 2.2.

.. math::
    s(x, y) = \mathbb{E}_w \lVert p(w, x) - \mathrm{onehot}(y) \rVert_2

The expectation is over networks trained for a few epochs from different initial weights (the paper: ten, after epoch 10
or 20 of 200). Only those epochs are trained, on the schedule of the whole training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["EL2N"]


@dataclass(frozen=True, kw_only=True)
class EL2N(RecordScore):
    """Real samples with the largest error early in training."""

    info: ClassVar[MethodInfo] = selection_info(
        "EL2N: error norm early in training",
        "arXiv:2107.07075",
        2021,
        class_independence="deletion",
        use_when="Take it to drop the easiest part of large clean data cheaply: it trains a few epochs and no more.",
        avoid_when="Never take it for small sets or noisy labels: of a tenth kept from noisy data nearly all was "
        "wrongly labelled.",
        related=("grand", "forgetting", "ccs"),
    )

    runs: int = 5
    """Independent trainings, over which the error is averaged (the paper: 10)."""
    epoch: int = 3
    """Epoch after which the error is taken: a tenth of ``record_epochs`` (the paper: 20 of 200)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return () if "scores" in problem.assets else (self.record_asset(until=self.epoch),)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"el2n": get_record(problem).after("el2n", self.epoch).mean(0)}
