r"""k-means per class (Lloyd 1982): the real samples nearest to the centroids (medoids), or the centroids themselves.

.. math::
    \min_{\mu_1 \dots \mu_m} \sum_{x} \min_j \lVert \varphi(x) - \mu_j \rVert^2

A centroid is stored as a synthetic sample with a hard label. Clusters may be those of the features of a network that
learned the labels: as features have no decoder, a centroid is then the average of the inputs of its cluster. Of a table
with categories it is the nearest row that the table can hold.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, NonNegativeInt, Problem, Result, Synthetic
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means, medoids
from potstill.functional.distances import chunks
from potstill.methods.engine import hard_labels
from potstill.methods.selection._by_class import (
    ClassByClass,
    FeatureSettings,
    SelectionState,
    advance,
    class_generator,
    random_selection,
    select_distinct,
    selection_info,
)  # fmt: skip
from potstill.methods.selection._features import class_features, feature_assets, read_class
from potstill.parametrize.rows import TableColumns, has_categories
from potstill.tasks import Classification

__all__ = ["KMeans", "KMeansState"]


@dataclass(frozen=True, kw_only=True)
class KMeansState(SelectionState):
    """``selected`` holds, by class, indices of its medoids, or its centroids (m, d)."""

    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""


@dataclass(frozen=True, kw_only=True)
class KMeans(FeatureSettings, ClassByClass[KMeansState]):
    """Centres of clusters within every class."""

    info: ClassVar[MethodInfo] = selection_info(
        "k-means",
        "Lloyd, IEEE Trans. Inf. Theory 28(2), 1982",
        1982,
        tasks=("*",),
        multi_input=True,
        class_independence="separate",
        use_when="Take it where samples must be real, labels are right, and few of each class are kept: it was one "
        "of the hardest selections to beat.",
        avoid_when="Avoid it where labels are wrong: its clusters collect them, and the result was no better than "
        "random samples here.",
        related=("k-median", "facility-location", "random"),
    )
    state_type: ClassVar[type] = KMeansState

    keep: Literal["medoid", "centroid"] = "medoid"
    """Keep the real samples nearest to the centroids, or the mean inputs of the clusters (of classes of one tensor)."""
    iterations: NonNegativeInt = 100
    """Maximum iterations of Lloyd's algorithm; stops when no sample changes its cluster. 0: the initial k-means++."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return feature_assets(self.features, self.pretrain_epochs)

    def init(self, problem: Problem, rng: Generator) -> KMeansState:
        first = random_selection(problem, rng)
        if self.keep == "centroid" and (problem.train.input.parts or not isinstance(problem.task, Classification)):
            raise PotstillError(
                f"k-means keeps centroids of classes of one tensor, but {problem.train.name} has none such; keep medoid"
            )
        selected = first.selected
        if self.keep == "centroid":
            selected = tuple(class_features(problem, index, "input", 0) for index in selected)
        return KMeansState(selected=selected, seed=first.seed)

    def step(self, problem: Problem, state: KMeansState, rng: Generator) -> tuple[KMeansState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        samples = read_class(problem, index, self.features, state.seed)
        inertia, rng = 0.0, class_generator(problem, state)

        def cluster(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
            nonlocal inertia
            centroids, owner = k_means(rows, m, rng, self.iterations)
            parts = chunks(len(rows), rows.shape[1])
            inertia = sum(float((rows[s] - centroids[owner[s]]).square().sum()) for s in parts) / len(rows)
            return centroids, owner

        if self.keep == "centroid":
            selected, owner = cluster(samples.rows, problem.counts[c])
            if self.features != "input":
                selected = _means(class_features(problem, index, "input", 0), owner, len(selected))
        else:
            selected = index[select_distinct(samples, problem.counts[c], lambda x, m: medoids(x, cluster(x, m)[0]))]
        repeats = state.repeats + samples.repeats
        return advance(state, selected, repeats=repeats), {"inertia": inertia, "duplicates": float(repeats)}

    def result(self, problem: Problem, state: KMeansState) -> Result:
        if self.keep == "medoid":
            return super().result(problem, state)
        x = torch.cat(state.selected).reshape(-1, *problem.train.input.shape)
        if has_categories(problem.train):
            x = TableColumns.of(problem.train).nearest(problem.train.normalization.invert(x))
            return Synthetic(payload={"inputs": x}, labels=hard_labels(problem), space="data")
        return Synthetic(payload={"inputs": x}, labels=hard_labels(problem))

    def single_round(self) -> Method[KMeansState]:
        return replace(self, iterations=1)


def _means(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """Return the mean (count, d) of the rows (n, d) of each cluster."""
    owner = owner.to(rows.device)
    sums = rows.new_zeros(count, rows.shape[1], dtype=torch.float64).index_add_(0, owner, rows.double())
    return (sums / torch.bincount(owner, minlength=count).clamp(min=1)[:, None]).to(rows.dtype)
