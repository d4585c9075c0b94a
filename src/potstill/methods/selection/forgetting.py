r"""Forgetting: samples that a network gets right and then wrong again most often while it is trained.

Toneva et al., ICLR 2019, arXiv:1812.05159.

.. math::
    s(x) = \sum_t \mathbb{1}[a_t(x) = 1, \; a_{t+1}(x) = 0], \qquad s(x) = \infty \text{ where } a_t(x) = 0 \; \forall t

:math:`a_t` = 1 if the network is right after epoch t. The paper evaluates a sample when it is in the batch; here all
are evaluated after each epoch. Never learned counts as hardest, as published: with wrong labels those are kept first,
unless ``cut`` drops them (the released code gives them as many events as there are epochs, the same order for one run).
Most samples are never forgotten; ties are broken at random.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.training_dynamics import forgetting
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, check_epochs, get_record

__all__ = ["Forgetting"]


@dataclass(frozen=True, kw_only=True)
class Forgetting(RecordScore):
    """Real samples that a network forgets most often while it learns."""

    info: ClassVar[MethodInfo] = selection_info(
        "Example forgetting",
        "arXiv:1812.05159",
        2019,
        class_independence="deletion",
        use_when="Take it to leave out the samples of large clean data that a network never forgets.",
        avoid_when="Avoid it for small sets, after few recorded epochs, and with wrong labels: those are forgotten "
        "most.",
        related=("el2n", "aum", "dyn-unc"),
    )

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets:
            check_epochs(2, self.record_epochs, "forgetting")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        correct = get_record(problem).series("correct")
        return {"forgetting": torch.stack([forgetting(run) for run in correct]).mean(0)}
