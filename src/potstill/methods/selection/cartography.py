r"""Dataset cartography: regions of the data map by mean and spread of the probability of a sample's class.

Swayamdipta et al., EMNLP 2020, arXiv:2009.10795, section 2.

.. math::
    \hat\mu(x) = \tfrac{1}{T} \sum_t p_y^{(t)}(x), \qquad
    \hat\sigma(x) = \sqrt{\tfrac{1}{T} \sum_t \big( p_y^{(t)}(x) - \hat\mu(x) \big)^2}

Ambiguous samples have a high spread, easy ones a high mean and hard ones a low mean. The paper trains on the ambiguous
third, with easy ones added for small sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.training_dynamics import cartography
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, check_epochs, check_swings, get_record

__all__ = ["Cartography"]


@dataclass(frozen=True, kw_only=True)
class Cartography(RecordScore):
    """Real samples of a region of the data map: ambiguous, easy or hard."""

    info: ClassVar[MethodInfo] = selection_info(
        "Dataset cartography",
        "arXiv:2009.10795",
        2020,
        class_independence="deletion",
        use_when="Take it to look at your data: its map shows ambiguous, easy and hard samples, and likely wrong "
        "labels.",
        avoid_when="Avoid its selection below half of the data and with wrong labels: it was far below random "
        "samples here.",
        related=("aum", "dyn-unc", "forgetting"),
    )
    selection_fields: ClassVar[tuple[str, ...]] = (*RecordScore.selection_fields, "region")

    region: Literal["ambiguous", "easy", "hard"] = "ambiguous"
    """Samples that count as hard: high spread (ambiguous), low mean probability (hard), or high (easy)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets and self.region == "ambiguous":
            check_epochs(2, self.record_epochs, "variability")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = get_record(problem)
        probability, correct = record.series("probability"), record.series("correct")
        runs = [cartography(p, c) for p, c in zip(probability, correct, strict=True)]
        variability = torch.stack([run.variability for run in runs]).mean(0)
        confidence = torch.stack([run.confidence for run in runs]).mean(0)
        if self.region == "ambiguous":
            check_swings("variability", variability, confidence, record.epochs)
        correctness = torch.stack([run.correctness for run in runs]).mean(0)
        return {"variability": variability, "confidence": confidence, "correctness": correctness}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        if self.region == "ambiguous":
            return columns["variability"]
        return columns["confidence"] if self.region == "easy" else -columns["confidence"]
