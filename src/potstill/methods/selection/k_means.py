r"""k-means per class (Lloyd 1982): the real samples nearest to the centroids (medoids), or the centroids themselves.

.. math::
    \min_{\mu_1 \dots \mu_m} \sum_{x} \min_j \lVert \varphi(x) - \mu_j \rVert^2

A centroid is an average of pictures: it exists only in input space and is stored as a hard_labels sample.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, Problem, Result, Synthetic
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means, medoids
from potstill.functional.distances import chunks
from potstill.functional.sampling import random_per_class
from potstill.methods.engine import hard_labels
from potstill.methods.selection._features import class_features, network_seed, read_class, trained
from potstill.methods.selection._greedy import (
    ChosenState,
    ClassByClass,
    Embedding,
    check_enough,
    following,
    without_repeats,
)
from potstill.tasks import Classification

__all__ = ["KMeans", "KMeansState"]


@dataclass(frozen=True, kw_only=True)
class KMeansState(ChosenState):
    """``chosen`` holds, by class, indices of its medoids, or its centroids (m, d)."""

    seed: int
    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""


@dataclass(frozen=True, kw_only=True)
class KMeans(Embedding, ClassByClass[KMeansState]):
    """Centres of clusters within every class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="k-means", paper="Lloyd, IEEE Trans. Inf. Theory 28(2), 1982", year=1982, family="selection",
        is_selection=True, kinds=("*",), tasks=("*",), multi_input=True,
    )  # fmt: skip
    state_type: ClassVar[type] = KMeansState
    may_be_zero: ClassVar[tuple[str, ...]] = ("iterations",)

    keep: Literal["medoid", "centroid"] = "medoid"
    """Keep the real samples nearest to the centroids, or the centroids (in input space only)."""
    iterations: int = 100
    """Most iterations of Lloyd's algorithm; it stops when no sample changes its cluster. 0: the start (k-means++)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return trained(self.features, self.epochs_trained) if self.keep == "medoid" else ()

    def init(self, problem: Problem, rng: Generator) -> KMeansState:
        check_enough(problem)
        if self.keep == "centroid" and (problem.train.input.parts or not isinstance(problem.task, Classification)):
            raise PotstillError(
                f"k-means keeps centroids of classes of one tensor, but {problem.train.name} has none such; keep medoid"
            )
        chosen = random_per_class(problem.class_indices, problem.counts, rng)
        if self.keep == "centroid":
            chosen = tuple(class_features(problem, index, "input", 0) for index in chosen)
        return KMeansState(chosen=chosen, seed=network_seed(rng))

    def step(self, problem: Problem, state: KMeansState, rng: Generator) -> tuple[KMeansState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        samples = read_class(problem, index, "input" if self.keep == "centroid" else self.features, state.seed)
        inertia = [0.0]

        def clustered(rows: Tensor, m: int) -> Tensor:
            centroids, owner = k_means(rows, m, rng, self.iterations)
            parts = chunks(len(rows), rows.shape[1])
            inertia[0] = sum(float((rows[s] - centroids[owner[s]]).square().sum()) for s in parts) / len(rows)
            return centroids

        if self.keep == "centroid":
            kept = clustered(samples.rows, problem.counts[c])
        else:
            kept = index[without_repeats(samples, problem.counts[c], lambda x, m: medoids(x, clustered(x, m)))]
        repeats = state.repeats + samples.repeats
        return following(state, kept, repeats=repeats), {"inertia": inertia[0], "duplicates": float(repeats)}

    def result(self, problem: Problem, state: KMeansState) -> Result:
        if self.keep == "medoid":
            return super().result(problem, state)
        x = torch.cat(state.chosen).reshape(-1, *problem.train.input.shape)
        return Synthetic(payload={"inputs": x}, labels=hard_labels(problem))

    def once(self) -> Method[KMeansState]:
        return replace(self, iterations=1)
