"""Classification, trained by cross-entropy and scored by accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Classification"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Classification. Targets are int64 classes (n,), or soft labels (n, k) that sum to 1."""

    k: int = 1
    """Number of classes, at least 1."""

    @property
    def name(self) -> str:
        return "classification"

    @property
    def metric(self) -> Metric:
        return Metric(name="accuracy", direction="higher", unit="fraction", high=1.0)

    @property
    def unit(self) -> str:
        return "class"

    @property
    def outputs(self) -> int:
        return self.k

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """All operations: moving pixels does not change a class."""
        return ("*",)

    def loss(self, output: Float[Tensor, "n k"], y: Tensor, /) -> Float[Tensor, ""]:
        """Return the mean over samples of ``−Σ_c y_c log softmax(output)_c``."""
        return F.cross_entropy(output, y.to(output.dtype) if y.is_floating_point() else y.long())

    def predict(self, output: Float[Tensor, "n k"], /) -> Tensor:
        """Return the most likely class (n,)."""
        return output.argmax(1)

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the accuracy."""
        return float((answers == y).double().mean())

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """Accuracy on the group of samples with the lowest one."""
        return {"worst_group_accuracy": self.metric}

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return the worst group's accuracy, if there are groups."""
        if groups is None:
            return {}
        correct = (answers == y).double()
        return {"worst_group_accuracy": min(float(correct[groups == g].mean()) for g in torch.unique(groups))}

    def chance_score(self, y: Tensor, /) -> float:
        """Return 1/k."""
        return 1 / self.k
