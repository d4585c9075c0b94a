"""The one door of a method to real data: keyed draws, batches, and means that pass ``release``.

A method gets samples (`RealData.draw`, `RealData.batch`), or sums over samples with their number. Sums of several parts
(shards, clients) add up, and all of them pass through ``release``, where a caller may add other clients' sums or noise,
or count the queries.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core import Batch, Inputs, Problem, Release, SampleSum, Source
from potstill.data.iterate import iterate_samples, map_samples
from potstill.functional.sampling import class_indices, draw_per_class, random_per_class, weighted_per_class

__all__ = ["RealData"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RealData:
    """View of real samples.

    Args:
        source: the training samples, or this machine's part of them.
        by_class: positions of each class's samples by its name, in label order; one class ``""`` where there are none.
        release: applied to every sum; ``None``: sums are as they are.
        weights: weight of each sample in draws of its class; ``None``: all equal.
    """

    source: Source
    by_class: Mapping[str, Int[Tensor, " _"]]
    release: Release | None = None
    weights: Float[Tensor, " n"] | None = None

    @classmethod
    def of(cls, problem: Problem) -> "RealData":
        """Return the view of a problem's training data."""
        by_class = dict(zip(problem.class_names, problem.class_indices, strict=True))
        return cls(
            source=problem.train, by_class=by_class, release=problem.release, weights=problem.real_weights
        )  # fmt: skip

    @classmethod
    def of_source(cls, source: Source) -> "RealData":
        """Return the view of a source outside of a problem."""
        names = tuple(source.classes) or ("",)
        return cls(source=source, by_class=dict(zip(names, class_indices(source.labels, len(names)), strict=True)))

    def draw(self, count: int, rng: Generator) -> tuple[Int[Tensor, " _"], ...]:
        """Draw ``min(count, size)`` distinct samples of each class; with weights, by weight and with replacement.

        One number is drawn from ``rng``. A class's draw depends on it, the class's name and its size alone, so it is
        the same whichever other classes this machine has.

        Returns:
            int64 positions in the source by class, on the CPU.
        """
        if self.weights is None:
            return draw_per_class(self.by_class, count, rng)
        counts = [min(count, len(index)) for index in self.by_class.values()]
        return weighted_per_class(self.by_class, self.weights, counts, rng, distinct=False)

    def draw_exactly(self, counts: Sequence[int], rng: Generator) -> tuple[Int[Tensor, " _"], ...]:
        """Draw ``counts[c]`` distinct samples of each class, keyed as in `draw`, by weight where there are weights.

        Raises:
            PotstillError: a class has fewer samples.
        """
        if self.weights is None:
            return random_per_class(self.by_class, counts, rng)
        return weighted_per_class(self.by_class, self.weights, counts, rng, distinct=True)

    def batch(self, *index: Int[Tensor, " _"]) -> Batch:
        """Fetch the samples at the concatenated ``index``, normalised, with targets and columns."""
        return self.source.fetch(torch.cat(index))

    def raw(self, *index: Int[Tensor, " _"]) -> Inputs:
        """Return the inputs at the concatenated ``index`` in data units."""
        return self.source.raw(torch.cat(index))

    def iterate(self, index: Int[Tensor, " m"], most: int) -> Iterator[tuple[Int[Tensor, " _"], Batch]]:
        """Yield every sample at ``index`` once, in batches of at most ``most``; see `iterate_samples`."""
        return iterate_samples(self.source, index, most)

    def map(self, index: Int[Tensor, " m"], most: int, rows: Callable[[Batch], Tensor]) -> Tensor:
        """Return ``rows`` of every sample at ``index``, computed in batches of at most ``most``; see `map_samples`."""
        return map_samples(self.source, index, most, rows)

    def released_mean(self, query: str, mean: Float[Tensor, "*d"], count: int) -> Float[Tensor, "*d"]:
        """Return the mean that a method may see of a mean over ``count`` samples.

        Args:
            query: what is summed: ``class NAME``, or ``gradient class NAME PARAMETER``.
            mean: mean over this machine's samples.
            count: number of those samples.
        """
        return mean if self.release is None else self.release(query, SampleSum(mean * count, count)).mean

    def class_mean(self, name: str, rows: Float[Tensor, "n *d"]) -> Float[Tensor, "*d"]:
        """Return the released mean of rows of a class's samples."""
        return self.released_mean(f"class {name}", rows.mean(0), len(rows))

    def mean_gradient(
        self, name: str, index: Int[Tensor, " m"], gradient: Callable[[Batch], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the released gradient of the mean loss of a class's samples.

        Args:
            name: name of the class.
            index: positions of the samples.
            gradient: gradients of the mean loss of a batch by parameter name.
        """
        found = gradient(self.batch(index))
        return {n: self.released_mean(f"gradient class {name} {n}", g, len(index)) for n, g in found.items()}
