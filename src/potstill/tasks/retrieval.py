"""Pairs of two views, such as a picture and its text: each is to be found by the other among many.

The loss is the symmetric cross-entropy of CLIP (Radford et al., arXiv:2103.00020, figure 3) with a fixed temperature;
a first view (a picture) may have several second ones (its captions), which are all right answers. The score is the mean
of Recall@k both ways, in which each first view stands once among those that are searched, as in the protocols of
Flickr30k and COCO.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Retrieval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Targets are int64 (n,): the number of each sample's first view, so that equal numbers are one picture.

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

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """All: a pair stays that pair."""
        return ("*",)

    def _views(self, output: Tensor) -> tuple[Tensor, Tensor]:
        a, b = output.reshape(len(output), 2, -1).unbind(1)
        return F.normalize(a, dim=1), F.normalize(b, dim=1)

    def loss(self, output: Float[Tensor, "n d2"], y: Int[Tensor, " n"], /) -> Float[Tensor, ""]:
        """Cross-entropy of finding each pair's other view in the batch, mean of both ways."""
        a, b = self._views(output)
        same = (y[:, None] == y[None, :]).to(output.dtype)
        likely = a @ b.T / self.temperature
        return (F.cross_entropy(likely, _rows(same)) + F.cross_entropy(likely.T, _rows(same.T))) / 2

    def predict(self, output: Float[Tensor, "n d2"], /) -> Float[Tensor, "n d2"]:
        """Both embeddings, of unit length."""
        return torch.cat(self._views(output), 1)

    def recall_both_ways(self, answers: Tensor, y: Tensor, /) -> tuple[float, float]:
        """Recall@k of the second view by the first, and of the first by the second: the part of views of which one that
        belongs to it is among the k nearest; equally near ones are counted as if they came last. Samples of one number
        are one first view: it counts once among those that ask and those that are searched."""
        a, b = self._views(answers.double())
        near = a @ b.T
        numbers, place = torch.unique(y, return_inverse=True)
        found = _found(near, y[:, None] == y[None, :], self.k)
        of_each = torch.zeros(len(numbers), dtype=found.dtype, device=found.device).index_add(0, place, found)
        there = torch.full((len(numbers), len(y)), -torch.inf, dtype=near.dtype, device=near.device)
        there = there.scatter_reduce(0, place[:, None].expand_as(near), near, "amax")
        return (
            float((of_each / torch.bincount(place)).mean()),
            float(_found(there.T, y[:, None] == numbers[None, :], self.k).mean()),
        )

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """The mean of Recall@k both ways."""
        return sum(self.recall_both_ways(answers, y)) / 2

    def chance_score(self, y: Tensor, /) -> float:
        """Chance: k of those that are searched, drawn at random."""
        n = max(1, len(y))
        counts = torch.bincount(torch.unique(y, return_inverse=True)[1])
        if len(counts) == len(y):
            return min(1.0, self.k / n)
        # of n second views, c are right: none of them is among k with the chance of C(n - c, k) / C(n, k)
        missed = torch.ones(len(counts), dtype=torch.float64)
        for j in range(int(counts.max())):
            missed *= torch.where(counts > j, max(0, n - self.k - j) / (n - j), 1.0)
        return (float((1 - missed).mean()) + min(1.0, self.k / len(counts))) / 2


def _rows(same: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return same / same.sum(1, keepdim=True)


def _found(near: Float[Tensor, "n m"], same: Tensor, k: int) -> Float[Tensor, " n"]:
    """1 where a right one is among the k nearest of each row, else 0."""
    best = near.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    ahead = ((near >= best) & ~same).sum(1)
    return (ahead < k).double()
