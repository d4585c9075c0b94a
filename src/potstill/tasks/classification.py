"""Classes: cross-entropy trains, accuracy scores."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Classification"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Targets are int64 classes (n,), or rows (n, k) that sum to 1."""

    k: int = 1
    """Classes, at least 1."""

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
        """All: a picture is of its class wherever its pixels are."""
        return ("*",)

    def loss(self, output: Float[Tensor, "n k"], y: Tensor, /) -> Float[Tensor, ""]:
        """Mean over samples of ``−Σ_c y_c log softmax(output)_c``, for int classes or rows that sum to 1."""
        return F.cross_entropy(output, y.to(output.dtype) if y.is_floating_point() else y.long())

    def predict(self, output: Float[Tensor, "n k"], /) -> Tensor:
        """The likeliest class (n,)."""
        return output.argmax(1)

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """The part of samples whose class is ``y``."""
        return float((answers == y).double().mean())

    def chance_score(self, y: Tensor, /) -> float:
        """Chance."""
        return 1 / self.k
