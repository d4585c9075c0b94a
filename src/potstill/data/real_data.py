"""The one door of a method to real data: batches, class statistics and gradients, as sums and counts.

A method gets samples (`RealData.batch`) or sums over samples (`RealData.class_sums`, `RealData.gradient_sum`). Sums of
several parts (shards, clients) add up, and all of them pass through ``release``, where a caller may add noise or count
the queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import Batch, Source
from potstill.data.iterate import iterate_groups, iterate_samples
from potstill.functional.sampling import class_indices, sample_distinct
from potstill.rng import generator

__all__ = ["RealData", "Release", "SampleSum"]

CHUNK = 512


@dataclass(frozen=True, slots=True, eq=False)
class SampleSum:
    """A sum over samples and their number; sums of disjoint parts add up."""

    total: Tensor
    count: int

    def __add__(self, other: "SampleSum") -> "SampleSum":
        return SampleSum(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """Return the mean over the samples."""
        return self.total / self.count


Release: TypeAlias = Callable[[str, SampleSum], SampleSum]
"""Function that every sum passes before a method sees it: the place for noise, clients and accounting.

It gets the query (``class NAME`` for a class statistic, ``gradient PARAMETER`` for a gradient) and the sum over this
machine's samples, and returns what the method sees.
"""


def release_unchanged(query: str, value: SampleSum) -> SampleSum:
    """Return ``value``."""
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class RealData:
    """View of a source of real samples.

    Args:
        source: the training samples, or this machine's part of them.
        release: applied to every sum.
    """

    source: Source
    release: Release = release_unchanged

    @cached_property
    def by_class(self) -> Mapping[str, Int[Tensor, " _"]]:
        """Positions of each class's samples, ascending, in label order; one class ``""`` where there are none."""
        names = self.source.classes or ("",)
        return dict(zip(names, class_indices(self.source.labels, len(names)), strict=True))

    def draw(self, name: str, count: int, *, seed: int, step: int = 0) -> Int[Tensor, " _"]:
        """Draw ``min(count, size)`` distinct samples of a class.

        The draw depends on the seed, the step, the class's name and its size alone, so it is the same whichever other
        classes this machine has.

        Returns:
            int64 positions in the source, on the CPU.
        """
        members = self.by_class[name]
        return members[sample_distinct(len(members), count, generator(seed, "real", name, step))]

    def batch(self, *index: Int[Tensor, " _"]) -> Batch:
        """Fetch the samples at the concatenated ``index``, normalised, with targets and columns."""
        return self.source.fetch(torch.cat(index))

    def class_sums(
        self, rows: Callable[[Batch], Float[Tensor, "n ..."]], classes: Sequence[str] | None = None
    ) -> dict[str, SampleSum]:
        """Sum a statistic of each sample over each class, in passes of bounded memory.

        Args:
            rows: statistic of each sample of a batch, such as an embedding.
            classes: names; ``None``: all.

        Returns:
            float64 sums and counts by class name; a class without samples is left out.
        """
        names = list(self.by_class if classes is None else classes)
        sums: dict[str, SampleSum] = {}
        with torch.no_grad():
            for numbers, batch in iterate_groups(self.source, [self.by_class[name] for name in names], CHUNK):
                values = rows(batch).double()
                for number in torch.unique(numbers).tolist():
                    some = values[(numbers == number).to(values.device)]
                    part = SampleSum(some.sum(0), len(some))
                    name = names[number]
                    sums[name] = sums[name] + part if name in sums else part
        return {name: self.release(f"class {name}", value) for name, value in sums.items()}

    def gradient_sum(
        self,
        losses: Callable[[Mapping[str, Tensor], Batch], Float[Tensor, " n"]],
        params: Mapping[str, Tensor],
        index: Int[Tensor, " m"],
    ) -> dict[str, SampleSum]:
        """Sum the gradients of each sample's loss over the samples at ``index``.

        Args:
            losses: loss of each sample of a batch, given the parameters.
            params: parameters by name.
            index: positions in the source.

        Returns:
            Sums of gradients by parameter name.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        total = {name: torch.zeros_like(p) for name, p in params.items()}
        for _, batch in iterate_samples(self.source, index, CHUNK):
            with torch.enable_grad():
                gradients = torch.autograd.grad(losses(leaves, batch).sum(), list(leaves.values()))
            for name, gradient in zip(leaves, gradients, strict=True):
                total[name] += gradient
        return {name: self.release(f"gradient {name}", SampleSum(t, len(index))) for name, t in total.items()}
