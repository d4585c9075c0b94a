"""Several labels of one sample, each present or not: one logistic loss per label, scored by the F1 of all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from potstill.tasks.metric import Metric
from potstill.tasks.ragged import target_mask

__all__ = ["MultiLabel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLabel:
    """Any number of labels per sample. Targets are int64 label numbers (n, most), padded (`potstill.tasks.RaggedTask`);
    networks predict a logit of each label."""

    name: ClassVar[str] = "multi-label"
    unit: ClassVar[str] = "item"
    ragged: ClassVar[bool] = True
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    metric: ClassVar[Metric] = Metric(name="F1", direction="higher", unit="fraction", high=1.0)
    labels: tuple[str, ...] = ()
    """Names of the labels (k), in the order of their numbers."""

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def _presence(self, y: Int64[Tensor, "n most"]) -> Float[Tensor, "n k"]:
        """Return 1 for labels that a sample has, else 0; the padding falls into a column that is left out."""
        k = self.outputs
        rows = torch.zeros(len(y), k + 1, device=y.device)
        return rows.scatter_(1, torch.where(target_mask(y), y, k), 1.0)[:, :k]

    def loss(self, output: Float[Tensor, "n k"], y: Int64[Tensor, "n most"], /) -> Float[Tensor, ""]:
        """Return the binary cross-entropy, the mean over samples and labels."""
        return F.binary_cross_entropy_with_logits(output, self._presence(y).to(output))

    def predict(self, output: Float[Tensor, "n k"], /) -> Int64[Tensor, "n k"]:
        """Return 1 for labels of probability above one half, else 0."""
        return (output > 0).long()

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return 2 · found / (predicted + present), counted over all samples and labels; 1 where there are none.

        Raises:
            ValueError: a target is no label's number.
        """
        if not bool(((y >= 0) & (y < self.outputs) | ~target_mask(y)).all()):
            raise ValueError(f"targets must be numbers of {self.outputs} labels, 0 … {self.outputs - 1}")
        present = self._presence(y).double()
        predicted = answers.double()
        total = float(predicted.sum() + present.sum())
        return 2 * float((predicted * present).sum()) / total if total else 1.0

    def chance_score(self, y: Tensor, /) -> float:
        """Return the score of predicting no label."""
        return self.score(torch.zeros(len(y), self.outputs), y)
