"""What feature-matching methods hold: statistics, blocks, views and their state; and sums over classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potstill.functional.distribution import membership
from potstill.functional.train import cross_entropy
from potstill.methods._matching import Outer
from potstill.methods._networks import Pool

__all__ = [
    "Block",
    "FeatureState",
    "Memory",
    "Statistics",
    "Views",
    "class_means_of_cross_entropy",
    "groups",
    "is_shared",
    "joined",
    "padded",
    "unpadded",
]

Statistics = Mapping[str, Tensor]
"""What the real samples of some classes are reduced to; the first axis of every tensor is the class, but for names that
begin with ``shared/`` (frequencies), which hold for all classes."""


Memory = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What steps with one network share."""

    real: Statistics
    draws: tuple[object, ...]
    """The augmentation of each class."""


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
class FeatureState:
    outer: Outer
    pool: Pool = ()
    """Networks that train along, for methods that keep some."""
    block: int = 0
    """Seed of the draws of the present block."""
    used: int = 0
    """Steps made with it."""
    real: Mapping[str, Tensor] = field(default_factory=dict)
    """Its statistics of the real samples, while more steps will use them."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What a method carries from step to step."""
    iteration: int = 0
    loss: float = 0.0
    """Of the step that led here."""


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
