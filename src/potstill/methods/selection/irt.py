r"""IRT: difficulty as a test estimates it, from which of many small models get a sample right.

Two-parameter item response theory (Birnbaum 1968; Bock and Aitkin 1981); for training data, Easy2Hard-Bench, NeurIPS
2024, arXiv:2409.18433.

.. math::
    P(R_{mi} = 1) = \sigma\big( s_i (a_m - b_i) \big)

Subjects m are the networks of ``runs`` trainings after some of their epochs, each trained on another part of the data,
so that a good share of their answers is on samples they have not seen. b is a sample's difficulty, s its
discrimination: negative where better models get it wrong more often, as with wrong labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import MethodInfo, Presets, Problem
from potstill.functional.difficulty import item_response
from potstill.methods.selection._subjects import BySubjects

__all__ = ["IRT"]


@dataclass(frozen=True, kw_only=True)
class IRT(BySubjects):
    """Real samples of every degree of difficulty, as item response theory estimates it."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Item response theory (2PL)",
        paper="Psychometrika 46, 1981; arXiv:2409.18433",
        year=2024,
        family="selection",
        is_selection=True,
        kinds=("*",),
    )
    presets: ClassVar[Presets] = {
        "quick": {"runs": 4, "epochs_recorded": 10},
    }

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        found = item_response(self.answers(problem).flatten(0, 1))
        return {"irt_difficulty": found.difficulty, "irt_discrimination": found.discrimination}
