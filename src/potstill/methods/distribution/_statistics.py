"""Statistics, views and objectives of feature matching, and sums over classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem
from potstill.functional.distribution import class_means, mean_gap, membership
from potstill.functional.train import cross_entropy
from potstill.methods.engine import MatchingState

__all__ = [
    "MEANS", "DistributionObjective", "Memory", "Statistics", "Views", "class_mean_cross_entropy", "groups",
    "is_shared", "joined", "pad_parts", "unpad_parts",
]  # fmt: skip

Statistics = Mapping[str, Tensor]
"""Statistics of real samples; the first axis is the class, except for names with the prefix ``shared/``."""


Memory = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Features of samples of some classes."""

    features: Tensor
    """Embeddings (n, d)."""
    layers: tuple[Tensor, ...]
    """Activations of the inner layers (n, c, h, w), if the method needs them."""
    weights: Tensor
    """Weight (k, n) of each sample in each class's statistic; rows sum to 1."""
    classes: tuple[int, ...]
    """Classes of the rows of ``weights``."""
    sizes: list[int] | None = None
    """Samples of each class, which come in this order; ``None``: samples have soft labels."""
    release: Callable[[str, Tensor], Tensor] | None = None
    """Function from a statistic's name and its class means over real samples to those that the method may see."""

    def means(self, rows: Tensor, name: str = "") -> Tensor:
        """Return the mean (k, …) of ``rows`` (n, …) in each class: of hard labels, from the class's own rows alone."""
        if self.sizes is None:
            return self.released(name, class_means(self.weights, rows))
        return self.released(name, torch.stack([part.mean(0) for part in torch.split(rows.flatten(1), self.sizes)]))

    def released(self, name: str, means: Tensor) -> Tensor:
        """Return the class means (k, …) that the method may see."""
        return means if self.release is None else self.release(name, means)


@dataclass(frozen=True, kw_only=True)
class DistributionObjective:
    """Statistics of real samples and the distance of synthetic samples from them."""

    statistics: Callable[[Views, Memory, Generator], Statistics]
    """Statistics of real samples; they also share draws (frequencies) with the synthetic side."""
    gap: Callable[[Statistics, Views, Memory], Tensor]
    """Distance of synthetic samples from the statistics, summed over classes. The memory is of all classes;
    ``Views.classes`` are those compared."""
    needs_layers: bool = False
    """True if statistics use inner layers."""
    joint_batch_norm: bool = False
    """True if a BatchNorm gets the samples of all classes at once, as in some publications."""
    compares_classes: bool = False
    """True if classes are compared with each other, so that all synthetic samples pass together."""
    penalty: Callable[[MatchingState, Network, Views, Tensor], Tensor | None] | None = None
    """Further loss term of the synthetic samples' views and their classes or soft labels."""
    begin: Callable[[Problem, Generator], Memory] | None = None
    """Initial memory."""
    update_memory: Callable[[MatchingState, Statistics, Callable[[], Views]], Memory] | None = None
    """Memory after a step, from the state after it, the real statistics and the current synthetic views."""


MEANS = DistributionObjective(
    statistics=lambda real, memory, rng: {"mu": real.means(real.features, "mu")},
    gap=lambda real, syn, memory: mean_gap(real["mu"], syn.means(syn.features)),
)
"""DM's objective: the squared distance of mean embeddings."""


def is_shared(name: str) -> bool:
    """Return True if a statistic holds for all classes."""
    return name.startswith("shared/")


def groups(sizes: list[int], most: int) -> list[list[int]]:
    """Group consecutive classes whose samples fit into one pass; a class that does not fit is alone."""
    grouped: list[list[int]] = [[]]
    total = 0
    for c, size in enumerate(sizes):
        if grouped[-1] and total + size > most:
            grouped.append([])
            total = 0
        grouped[-1].append(c)
        total += size
    return grouped


def class_mean_cross_entropy(logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the sum over classes of each class's mean cross-entropy."""
    if y.is_floating_point():
        return cross_entropy(logits, y) * y.shape[1]
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    return (membership(sizes, losses) @ losses).sum()


def pad_parts(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack tensors of several lengths with zero padding; return them and their lengths."""
    sizes = torch.tensor([len(p) for p in parts])
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), sizes


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate statistics of groups of classes, padding those of `pad_parts` to the longest."""
    longest = max((p.shape[1] for p in parts if p.ndim > 1), default=0)
    filled = [
        p if p.ndim < 2 or p.shape[1] == longest
        else torch.nn.functional.pad(p, (0, 0) * (p.ndim - 2) + (0, longest - p.shape[1]))
        for p in parts
    ]  # fmt: skip
    return torch.cat(filled)


def unpad_parts(stacked: Tensor, sizes: Tensor) -> list[Tensor]:
    """Return the tensors that `pad_parts` stacked."""
    return [part[:n] for part, n in zip(stacked, sizes.tolist(), strict=True)]
