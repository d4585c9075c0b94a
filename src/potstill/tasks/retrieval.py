"""Pairs of two views, such as a picture and its text: each is to be found by the other among many.

The loss is the symmetric cross-entropy of CLIP (Radford et al., arXiv:2103.00020, figure 3) with a fixed temperature;
views of the same pair are all right answers. The score is the mean of Recall@k both ways.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.metric import Metric

__all__ = ["Retrieval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Targets are int64 (n,): the number of the pair that each sample is, so that equal numbers are one pair.

    A network's output is (n, 2·d): the two views' embeddings side by side.
    """

    views: tuple[str, str] = ("image", "text")
    """Names of the two views among the inputs."""
    width: int = 64
    """d, of an embedding. Ours."""
    k: int = 10
    """Of Recall@k."""
    temperature: float = 0.07
    """Of the loss (arXiv:2103.00020, its value at the start)."""

    @property
    def name(self) -> str:
        return "retrieval"

    @property
    def metric(self) -> Metric:
        return Metric(name=f"recall@{self.k}", direction="higher", unit="fraction", high=1.0)

    @property
    def unit(self) -> str:
        return "pair"

    @property
    def outputs(self) -> int:
        return 2 * self.width

    def _views(self, output: Tensor) -> tuple[Tensor, Tensor]:
        a, b = output.reshape(len(output), 2, -1).unbind(1)
        return F.normalize(a, dim=1), F.normalize(b, dim=1)

    def loss(self, output: Float[Tensor, "n d2"], y: Int[Tensor, " n"], /) -> Float[Tensor, ""]:
        """Cross-entropy of finding each pair's other view in the batch, mean of both ways."""
        a, b = self._views(output)
        same = (y[:, None] == y[None, :]).to(output.dtype)
        likely = a @ b.T / self.temperature
        return (F.cross_entropy(likely, _rows(same)) + F.cross_entropy(likely.T, _rows(same.T))) / 2

    def answer(self, output: Float[Tensor, "n d2"], /) -> Float[Tensor, "n d2"]:
        """Both embeddings, of unit length."""
        return torch.cat(self._views(output), 1)

    def ways(self, answers: Tensor, y: Tensor, /) -> tuple[float, float]:
        """Recall@k of the second view by the first, and of the first by the second: the part of views of which one of
        the same pair is among the k nearest; equally near ones are counted as if they came last."""
        a, b = self._views(answers.double())
        same, near = y[:, None] == y[None, :], a @ b.T
        return _recall(near, same, self.k), _recall(near.T, same.T, self.k)

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """The mean of Recall@k both ways."""
        return sum(self.ways(answers, y)) / 2

    def worst(self, y: Tensor, /) -> float:
        """Chance."""
        return min(1.0, self.k / max(1, len(y)))


def _rows(same: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return same / same.sum(1, keepdim=True)


def _recall(near: Float[Tensor, "n m"], same: Tensor, k: int) -> float:
    best = near.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    ahead = ((near >= best) & ~same).sum(1)
    return float((ahead < k).double().mean())
