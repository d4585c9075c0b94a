r"""IRT: difficulty of samples by item response theory, from the answers of many small models.

Two-parameter item response theory (Birnbaum 1968; Bock and Aitkin 1981), for training data as in Easy2Hard-Bench,
NeurIPS 2024, arXiv:2409.18433.

.. math::
    P(R_{mi} = 1) = \sigma\big( s_i (a_m - b_i) \big)

R is 1 if model m gets sample i right, a the model's ability (`_many_models`). b is a sample's difficulty, s its
discrimination, negative if better models get it wrong more often, as with wrong labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.difficulty import item_response
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._many_models import ManyModelScore

__all__ = ["IRT"]


@dataclass(frozen=True, kw_only=True)
class IRT(ManyModelScore):
    """Real samples of every degree of difficulty, as item response theory estimates it."""

    info: ClassVar[MethodInfo] = selection_info(
        "Item response theory (2PL)",
        "Psychometrika 46, 1981; arXiv:2409.18433",
        2024,
        class_independence="deletion",
        use_when="Take it to learn how hard samples are, as a number that allows for how good each model is; "
        "negative discrimination marks wrong labels.",
        avoid_when="Avoid it if accuracy alone counts: sets even over difficulty were no better than random samples "
        "here.",
        related=("glicko", "ccs", "stratified"),
    )

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        items = item_response(self.answers(problem).flatten(0, 1))
        return {"irt_difficulty": items.difficulty, "irt_discrimination": items.discrimination}
