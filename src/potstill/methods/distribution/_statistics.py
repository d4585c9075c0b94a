"""What feature matching works on: statistics, views, what a method measures by them; and sums over classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem
from potstill.functional.distribution import class_means, mean_gap, membership
from potstill.functional.train import cross_entropy
from potstill.methods.engine import MatchingState

__all__ = [
    "MEANS", "Measure", "Memory", "Statistics", "Views", "class_means_of_cross_entropy", "groups", "is_shared",
    "joined", "padded", "unpadded",
]  # fmt: skip

Statistics = Mapping[str, Tensor]
"""What the real samples of some classes are reduced to; the first axis of every tensor is the class, but for names that
begin with ``shared/`` (frequencies), which hold for all classes."""


Memory = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Views:
    """What a network makes of samples of some classes."""

    features: Tensor
    """Embeddings (n, d)."""
    layers: tuple[Tensor, ...]
    """Activations of the inner layers (n, c, h, w), for methods that look at them."""
    weights: Tensor
    """(k, n): how much each sample counts in each class's statistic; rows sum to 1."""
    classes: tuple[int, ...]
    """The k classes of the rows of ``weights``."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a method keeps of real samples, and how far synthetic ones are from it."""

    statistics: Callable[[Views, Memory, Generator], Statistics]
    """Of real samples; draws (frequencies) are shared with the synthetic side through them."""
    gap: Callable[[Statistics, Views, Memory], Tensor]
    """The distance of the synthetic samples from them, summed over classes. The memory holds what the method carries
    along, of all classes: ``Views.classes`` says which are looked at."""
    layered: bool = False
    """Whether the statistics look at inner layers."""
    joint: bool = False
    """Whether a BatchNorm sees the samples of all classes at once, as some publications let it."""
    crosses: bool = False
    """Whether the gap compares classes with each other, so that all synthetic samples pass together."""
    penalty: Callable[[MatchingState, Network, Views, Tensor], Tensor | None] | None = None
    """A term that joins the gap, from the synthetic samples' views and their classes or rows."""
    begin: Callable[[Problem, Generator], Memory] | None = None
    """The first memory, where there is one."""
    remember: Callable[[MatchingState, Statistics, Callable[[], Views]], Memory] | None = None
    """The memory after a step, from the state after it, the real statistics, and the synthetic samples as they then
    are."""


MEANS = Measure(
    statistics=lambda real, memory, rng: {"mu": class_means(real.weights, real.features)},
    gap=lambda real, syn, memory: mean_gap(real["mu"], class_means(syn.weights, syn.features)),
)
"""DM's: the squared distance of the means of the embeddings."""


def is_shared(name: str) -> bool:
    """Whether a statistic holds for all classes."""
    return name.startswith("shared/")


def groups(sizes: list[int], most: int) -> list[list[int]]:
    """Consecutive classes whose samples fit one pass together; a class that does not fit goes alone."""
    made: list[list[int]] = [[]]
    held = 0
    for c, size in enumerate(sizes):
        if made[-1] and held + size > most:
            made.append([])
            held = 0
        made[-1].append(c)
        held += size
    return made


def class_means_of_cross_entropy(logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Cross-entropy summed over classes of the mean within each, as class-wise steps add it up."""
    if y.is_floating_point():
        return cross_entropy(logits, y) * y.shape[1]
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    return (membership(sizes, losses) @ losses).sum()


def padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tensors of several lengths as one with a class axis, filled up with zeros, and their lengths."""
    sizes = torch.tensor([len(p) for p in parts])
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), sizes


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Statistics of several groups of classes as one; those that `padded` filled up are filled to the longest."""
    longest = max((p.shape[1] for p in parts if p.ndim > 1), default=0)
    filled = [
        p if p.ndim < 2 or p.shape[1] == longest
        else torch.nn.functional.pad(p, (0, 0) * (p.ndim - 2) + (0, longest - p.shape[1]))
        for p in parts
    ]  # fmt: skip
    return torch.cat(filled)


def unpadded(whole: Tensor, sizes: Tensor) -> list[Tensor]:
    """The parts that `padded` joined."""
    return [part[:n] for part, n in zip(whole, sizes.tolist(), strict=True)]
