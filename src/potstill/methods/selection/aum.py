r"""AUM: area under the margin, low for wrong labels.

Pleiss et al., NeurIPS 2020, arXiv:2001.10528, equations 1 and 2.

.. math::
    s(x, y) = \tfrac{1}{T} \sum_t \big( z_y^{(t)}(x) - \max_{c \neq y} z_c^{(t)}(x) \big)

z are logits. The paper finds wrong labels by a low area and drops them; the default here keeps the easiest. The paper's
threshold samples, which estimate the number of wrong labels, are not made: the budget decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.pruning import Keep
from potstill.functional.training_dynamics import aum
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["AUM"]


@dataclass(frozen=True, kw_only=True)
class AUM(RecordScore):
    """Real samples whose label the network agrees with soonest and most."""

    info: ClassVar[MethodInfo] = selection_info(
        "AUM: area under the margin",
        "arXiv:2001.10528",
        2020,
        class_independence="deletion",
        use_when="Take it to find and drop wrong labels: with a fifth of them wrong it kept almost none and was "
        "above random samples.",
        avoid_when="Avoid it on clean data: keeping the easiest stays below random samples from a third kept on.",
        related=("ccs", "moderate", "cartography"),
    )

    keep: Keep = "easiest"
    """Samples to keep: the paper drops those of the lowest area; see the other scores for the choices."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        return {"aum": aum(get_record(problem).series("margin").flatten(0, 1))}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        return -columns["aum"]
