"""Classification, trained by cross-entropy and scored by accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Classification"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Classification. Targets are int64 classes (n,), or soft labels (n, k) that sum to 1."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[Metric] = Metric(name="accuracy", direction="higher", unit="fraction", high=1.0)
    further_metrics: ClassVar[Mapping[str, Metric]] = {"worst_group_accuracy": metric}
    """Accuracy on the group of samples with the lowest one."""
    unit: ClassVar[str] = "class"
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    """All operations: moving pixels does not change a class."""
    k: int = 1
    """Number of classes, at least 1."""

    @property
    def outputs(self) -> int:
        return self.k

    def loss(self, output: Float[Tensor, "n k"], y: Tensor, /) -> Float[Tensor, ""]:
        """Return the mean over samples of ``−Σ_c y_c log softmax(output)_c``."""
        return F.cross_entropy(output, y.to(output.dtype) if y.is_floating_point() else y.long())

    def predict(self, output: Float[Tensor, "n k"], /) -> Tensor:
        """Return the most likely class (n,)."""
        return output.argmax(1)

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the accuracy."""
        return float((answers == y).double().mean())

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return the worst group's accuracy, if there are groups."""
        if groups is None:
            return {}
        correct = (answers == y).double()
        return {"worst_group_accuracy": min(float(correct[groups == g].mean()) for g in torch.unique(groups))}

    def chance_score(self, y: Tensor, /) -> float:
        """Return 1/k."""
        return 1 / self.k
