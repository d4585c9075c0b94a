"""Retrieval between two views, such as images and texts.

The loss is CLIP's symmetric cross-entropy (Radford et al., arXiv:2103.00020, figure 3) with a fixed temperature. A
first view (an image) may have several second ones (its captions), which all count as correct. The score is the mean of
Recall@k in both directions with each first view once, as in the protocols of Flickr30k and COCO.

A distilled set may hold a learned similarity in place of pair numbers (LoRS, Xu et al., arXiv:2406.03793): a row
(a, l, r) for each pair, of which ``S = diag(a) + L Rᵀ``. Its loss is the weighted binary cross-entropy of that paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.tasks.metric import Metric
from potstill.tasks.similarity import low_rank_similarity, split_similarity, weighted_bce

__all__ = ["Retrieval"]

_RANKS = (1, 5, 10)
"""k of the further metrics, as published for Flickr30k and COCO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Retrieval. Targets are int64 (n,): the number of each sample's first view; equal numbers are one image.

    A network's output is (n, 2·d): the embeddings of both views, side by side. Targets of a set may also be float32
    rows (n, 1 + 2·rank): a learned similarity of low rank.
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

    def loss(self, output: Float[Tensor, "n d2"], y: Tensor, /) -> Float[Tensor, ""]:
        """Return the cross-entropy of finding each pair's other view in the batch, averaged over both directions.

        With rows of a learned similarity as targets it is the weighted binary cross-entropy on that similarity.
        """
        a, b = self._views(output)
        if y.is_floating_point():
            diagonal, left, right = split_similarity(y)
            return weighted_bce(a @ b.T / self.temperature, low_rank_similarity(diagonal, left, right).to(output))
        same = (y[:, None] == y[None, :]).to(output.dtype)
        right, right_back = (s / s.sum(1, keepdim=True) for s in (same, same.T))
        likely = a @ b.T / self.temperature
        return (F.cross_entropy(likely, right) + F.cross_entropy(likely.T, right_back)) / 2

    def predict(self, output: Float[Tensor, "n d2"], /) -> Float[Tensor, "n d2"]:
        """Return both embeddings with unit length."""
        return torch.cat(self._views(output), 1)

    def recall_both_ways(self, answers: Tensor, y: Tensor, /, k: int | None = None) -> tuple[float, float]:
        """Return Recall@k of second views by first ones and of first views by second ones.

        Recall@k is the share of views with a correct one among the k nearest; ties count as if the correct one came
        last. Samples with one number are one first view, counted once as query and once as candidate.

        Args:
            k: number of candidates; ``None``: that of the task.
        """
        ahead, of_pair, place = self._candidates_ahead(answers, y)
        hits = (ahead < (k or self.k)).double()
        of_each = torch.zeros(int(place.max()) + 1, dtype=hits.dtype, device=hits.device).index_add(0, place, hits)
        return (
            float((of_each / torch.bincount(place)).mean()),
            float((of_pair < (k or self.k)).double().mean()),
        )

    def _candidates_ahead(self, answers: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the wrong candidates that are no farther than the nearest correct one, by first and by second views
        (n,), and the number of each sample's first view."""
        a, b = self._views(answers.double())
        near = a @ b.T
        numbers, place = torch.unique(_pair_numbers(y), return_inverse=True)
        best = torch.full((len(numbers), len(y)), -torch.inf, dtype=near.dtype, device=near.device)
        best = best.scatter_reduce(0, place[:, None].expand_as(near), near, "amax")
        same = place[:, None] == place[None, :]
        return _ahead(near, same), _ahead(best.T, place[:, None] == torch.arange(len(numbers)).to(place)), place

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the mean of both recalls."""
        return sum(self.recall_both_ways(answers, y)) / 2

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """Recall@1, 5 and 10 of each direction: ``tr`` finds second views (texts), ``ir`` first ones (images)."""
        names = [f"{way}@{k}" for way in ("ir", "tr") for k in _RANKS]
        return {name: Metric(name=name, direction="higher", unit="fraction", high=1.0) for name in names}

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> Mapping[str, float]:
        """Return Recall@1, 5 and 10 of each direction."""
        recalls: dict[str, float] = {}
        for k in _RANKS:
            recalls[f"tr@{k}"], recalls[f"ir@{k}"] = self.recall_both_ways(answers, y, k)
        return {name: recalls[name] for name in self.further_metrics}

    def chance_score(self, y: Tensor, /) -> float:
        """Return the expected score of k random candidates."""
        y, n = _pair_numbers(y), max(1, len(y))
        counts = torch.bincount(torch.unique(y, return_inverse=True)[1])
        if len(counts) == len(y):
            return min(1.0, self.k / n)
        # of n second views, c are right: none of them is among k with the chance of C(n - c, k) / C(n, k)
        missed = torch.ones(len(counts), dtype=torch.float64)
        for j in range(int(counts.max())):
            missed *= torch.where(counts > j, max(0, n - self.k - j) / (n - j), 1.0)
        return (float((1 - missed).mean()) + min(1.0, self.k / len(counts))) / 2


def _pair_numbers(y: Tensor) -> Tensor:
    """Return the number of each sample's first view; rows of a similarity are a pair each."""
    if not y.is_floating_point():
        return y
    split_similarity(y)
    return torch.arange(len(y), device=y.device)


def _ahead(near: Float[Tensor, "n m"], same: Tensor) -> Int[Tensor, " n"]:
    """Return the wrong candidates that are no farther than the nearest correct one of each row."""
    best = near.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    return ((near >= best) & ~same).sum(1)
