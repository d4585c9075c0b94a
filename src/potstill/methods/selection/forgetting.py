r"""Forgetting: the samples that a network gets right and then wrong again most often while it is trained.

Toneva et al., ICLR 2019, arXiv:1812.05159.

.. math::
    s(x) = \sum_t \mathbb{1}[a_t(x) = 1, \; a_{t+1}(x) = 0], \qquad s(x) = \infty \text{ where } a_t(x) = 0 \; \forall t

:math:`a_t` is 1 where the network is right after epoch t. The paper looks at a sample when it is in the batch; here all
are looked at after each epoch. Never learned counts as hardest, as published: with wrong labels those are kept first,
unless ``cut`` leaves them out (the released code gives them as many events as there are epochs, which orders them alike
where there is one run). Most samples are never forgotten; which of equal ones are kept is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.training_dynamics import forgetting
from potstill.methods.selection._record import ByRecord, check_epochs, record_of

__all__ = ["Forgetting"]


@dataclass(frozen=True, kw_only=True)
class Forgetting(ByRecord):
    """Real samples that a network forgets most often while it learns."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Example forgetting", paper="arXiv:1812.05159", year=2019, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets:
            check_epochs(2, self.epochs_recorded, "forgetting")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        correct = record_of(problem).series("correct")
        events = torch.stack([forgetting(run) for run in correct])
        return {"forgetting": events.mean(0)}
