"""Retrieval between two views, such as images and texts.

The loss is CLIP's symmetric cross-entropy (Radford et al., arXiv:2103.00020, figure 3) with a fixed temperature. A
first view (an image) may have several second ones (its captions), which all count as correct. The score is the mean of
Recall@k in both directions with each first view once, as in the protocols of Flickr30k and COCO.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Retrieval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Retrieval. Targets are int64 (n,): the number of each sample's first view; equal numbers are one image.

    A network's output is (n, 2·d): the embeddings of both views, side by side.
    """

    name: ClassVar[str] = "retrieval"
    unit: ClassVar[str] = "pair"
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    """All operations: a pair stays a pair."""
    views: tuple[str, str] = ("image", "text")
    """Names of the two views among the inputs."""
    width: int = 64
    """Embedding size d. Ours."""
    k: int = 10
    """k of Recall@k."""
    temperature: float = 0.07
    """Temperature of the loss (initial value of arXiv:2103.00020)."""

    @property
    def metric(self) -> Metric:
        return Metric(name=f"recall@{self.k}", direction="higher", unit="fraction", high=1.0)

    @property
    def outputs(self) -> int:
        return 2 * self.width

    def _views(self, output: Tensor) -> tuple[Tensor, Tensor]:
        a, b = output.reshape(len(output), 2, -1).unbind(1)
        return F.normalize(a, dim=1), F.normalize(b, dim=1)

    def loss(self, output: Float[Tensor, "n d2"], y: Int[Tensor, " n"], /) -> Float[Tensor, ""]:
        """Return the cross-entropy of finding each pair's other view in the batch, averaged over both directions."""
        a, b = self._views(output)
        same = (y[:, None] == y[None, :]).to(output.dtype)
        right, right_back = (s / s.sum(1, keepdim=True) for s in (same, same.T))
        likely = a @ b.T / self.temperature
        return (F.cross_entropy(likely, right) + F.cross_entropy(likely.T, right_back)) / 2

    def predict(self, output: Float[Tensor, "n d2"], /) -> Float[Tensor, "n d2"]:
        """Return both embeddings with unit length."""
        return torch.cat(self._views(output), 1)

    def recall_both_ways(self, answers: Tensor, y: Tensor, /) -> tuple[float, float]:
        """Return Recall@k of second views by first ones and of first views by second ones.

        Recall@k is the share of views with a correct one among the k nearest; ties count as if the correct one came
        last. Samples with one number are one first view, counted once as query and once as candidate.
        """
        a, b = self._views(answers.double())
        near = a @ b.T
        numbers, place = torch.unique(y, return_inverse=True)
        hits = _hits(near, y[:, None] == y[None, :], self.k)
        of_each = torch.zeros(len(numbers), dtype=hits.dtype, device=hits.device).index_add(0, place, hits)
        best_similarity = torch.full((len(numbers), len(y)), -torch.inf, dtype=near.dtype, device=near.device)
        best_similarity = best_similarity.scatter_reduce(0, place[:, None].expand_as(near), near, "amax")
        return (
            float((of_each / torch.bincount(place)).mean()),
            float(_hits(best_similarity.T, y[:, None] == numbers[None, :], self.k).mean()),
        )

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the mean of both recalls."""
        return sum(self.recall_both_ways(answers, y)) / 2

    def chance_score(self, y: Tensor, /) -> float:
        """Return the expected score of k random candidates."""
        n = max(1, len(y))
        counts = torch.bincount(torch.unique(y, return_inverse=True)[1])
        if len(counts) == len(y):
            return min(1.0, self.k / n)
        # of n second views, c are right: none of them is among k with the chance of C(n - c, k) / C(n, k)
        missed = torch.ones(len(counts), dtype=torch.float64)
        for j in range(int(counts.max())):
            missed *= torch.where(counts > j, max(0, n - self.k - j) / (n - j), 1.0)
        return (float((1 - missed).mean()) + min(1.0, self.k / len(counts))) / 2


def _hits(near: Float[Tensor, "n m"], same: Tensor, k: int) -> Float[Tensor, " n"]:
    """Return 1 where a correct candidate is among the k nearest of a row, else 0."""
    best = near.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    ahead = ((near >= best) & ~same).sum(1)
    return (ahead < k).double()
