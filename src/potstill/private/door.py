"""The one door to real data of a private run: clipped sums by group, with noise, until the budget is spent."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.private.accounting import Query
from potstill.private.noise import gaussian_noise

__all__ = ["PrivateDoor"]

CHUNK = 2000
"""Records that are mapped at a time."""


class PrivateDoor:
    """Real records behind their budget.

    Args:
        inputs: (n, …) in data units, within public bounds, by position.
        labels: class of each record.
        queries: releases that are allowed, calibrated for all together.
        generator: of the noise, for tests alone; ``None``: the entropy of the operating system.
    """

    def __init__(
        self, inputs: Callable[[Int[Tensor, " m"]], Tensor], labels: Int[Tensor, " n"], queries: Sequence[Query],
        generator: Generator | None = None,
    ) -> None:  # fmt: skip
        self._inputs, self._labels, self._generator = inputs, labels, generator
        self._left = {query.name: query.times for query in queries}
        self._noise = {query.name: query.noise * query.sensitivity for query in queries}
        self._features: tuple[Callable[[Tensor], Tensor], Tensor] | None = None

    def noisy_sums(
        self, query: str, rows: Callable[[Tensor, Int[Tensor, " m"]], tuple[Tensor, Int[Tensor, " m"]]], groups: int
    ) -> Float[Tensor, "groups d"]:
        """Return the sum of one vector of each record by group, with noise.

        Vectors are clipped to norm 1, and each record is in one group, so that adding or removing a record changes the
        sums by 1 at most in L2 norm.

        Args:
            query: name of the release.
            rows: vectors (m, d) and group (m,) of some records, from their inputs and labels. It must look at each
                record alone.
            groups: number of groups.

        Raises:
            PotstillError: the releases of that name are spent.
        """
        self._spend(query)
        total: Tensor | None = None
        for at in self._chunks():
            vectors, group = rows(self._inputs(at), self._labels[at])
            if total is None:
                total = torch.zeros(groups, vectors.shape[1], dtype=torch.float64)
            total.index_add_(0, group, _clipped(vectors))
        return self._released(query, total)

    def noisy_products(
        self, query: str, features: Callable[[Tensor], Tensor],
        right: Callable[[Tensor, Int[Tensor, " m"]], Tensor],
    ) -> Float[Tensor, "d k"]:  # fmt: skip
        """Return the sum of the outer products of two vectors of each record, with noise.

        A product's norm is clipped to 1, so that a record that is added or removed changes the sum by 1 at most.

        Args:
            query: name of the release.
            features: left vectors (m, d) of inputs. They are computed once, and stay here.
            right: right vectors (m, k) of some records, from their left vectors and labels, each from its own alone.

        Raises:
            PotstillError: the releases of that name are spent.
        """
        self._spend(query)
        if self._features is None or self._features[0] is not features:
            self._features = features, torch.cat([features(self._inputs(at)).float() for at in self._chunks()])
        left, total = self._features[1], None
        for at in self._chunks():
            z, e = left[at], right(left[at], self._labels[at])
            norms = z.norm(dim=1, keepdim=True) * e.norm(dim=1, keepdim=True)
            part = (z.T @ (e / norms.clamp_min(1.0))).double()
            total = part if total is None else total + part
        return self._released(query, total)

    def _chunks(self) -> tuple[Int[Tensor, " m"], ...]:
        return torch.split(torch.arange(len(self._labels)), CHUNK)

    def _spend(self, query: str) -> None:
        if self._left.get(query, 0) < 1:
            raise PotstillError(f"the budget has no release {query!r} left; a private run never spends it twice")
        self._left[query] -= 1

    def _released(self, query: str, total: Tensor | None) -> Tensor:
        assert total is not None  # there is a record
        noisy = total + self._noise[query] * gaussian_noise(tuple(total.shape), self._generator)
        return noisy.float()


def _clipped(vectors: Float[Tensor, "m d"]) -> Tensor:
    """Return the vectors in float64, shortened to norm 1 where they are longer."""
    exact = vectors.double()
    clipped: Tensor = exact / exact.norm(dim=1, keepdim=True).clamp_min(1.0)
    return clipped
