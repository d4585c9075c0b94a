r"""Dataset cartography: the samples on which a network keeps changing its mind.

Swayamdipta et al., EMNLP 2020, arXiv:2009.10795, section 2.

.. math::
    \hat\mu(x) = \tfrac{1}{T} \sum_t p_y^{(t)}(x), \qquad
    \hat\sigma(x) = \sqrt{\tfrac{1}{T} \sum_t \big( p_y^{(t)}(x) - \hat\mu(x) \big)^2}

Ambiguous samples have a high spread, easy ones a high mean and hard ones a low mean. The paper trains on the ambiguous
third, and on the easy ones beside them where few are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.training_dynamics import cartography
from potstill.methods.selection._record import ByRecord, check_epochs, check_swings, record_of

__all__ = ["Cartography"]


@dataclass(frozen=True, kw_only=True)
class Cartography(ByRecord):
    """Real samples of a region of the data map: ambiguous, easy or hard."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset cartography", paper="arXiv:2009.10795", year=2020, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    selection_fields: ClassVar[tuple[str, ...]] = (*ByRecord.selection_fields, "region")

    region: Literal["ambiguous", "easy", "hard"] = "ambiguous"
    """What counts as hard: a high spread (ambiguous), or a low mean probability. ``easy`` turns that round."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets and self.region == "ambiguous":
            check_epochs(2, self.epochs_recorded, "variability")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = record_of(problem)
        probability, correct = record.series("probability"), record.series("correct")
        runs = [cartography(p, c) for p, c in zip(probability, correct, strict=True)]
        variability = torch.stack([run.variability for run in runs]).mean(0)
        confidence = torch.stack([run.confidence for run in runs]).mean(0)
        if self.region == "ambiguous":
            check_swings("variability", variability, confidence, record.epochs)
        return {
            "variability": variability, "confidence": confidence,
            "correctness": torch.stack([run.correctness for run in runs]).mean(0),
        }  # fmt: skip

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        if self.region == "ambiguous":
            return columns["variability"]
        return columns["confidence"] if self.region == "easy" else -columns["confidence"]
