r"""AUM: the area under the margin, low for wrong labels.

Pleiss et al., NeurIPS 2020, arXiv:2001.10528, equations 1 and 2.

.. math::
    s(x, y) = \tfrac{1}{T} \sum_t \big( z_y^{(t)}(x) - \max_{c \neq y} z_c^{(t)}(x) \big)

z are logits. The paper finds wrong labels with it and leaves the lowest out; so does the default here, which keeps the
easiest. The paper's threshold samples, which say how many labels are wrong, are not made: the budget says it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.pruning import Keep
from potstill.functional.training_dynamics import aum
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["AUM"]


@dataclass(frozen=True, kw_only=True)
class AUM(ByRecord):
    """Real samples whose label the network agrees with soonest and most."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="AUM: area under the margin", paper="arXiv:2001.10528", year=2020, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    keep: Keep = "easiest"
    """Which to keep: the paper leaves out those of the lowest area; see the other scores for the rest."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"aum": aum(record_of(problem).series("margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["aum"]
