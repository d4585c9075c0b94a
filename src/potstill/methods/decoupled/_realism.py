"""Crops that a teacher finds realistic, and mosaics of them (Sun et al., RDED, arXiv:2312.03526)."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.crop import boxes
from potstill.core import Problem
from potstill.functional.crops import assemble_mosaics, cropped, pad_centre
from potstill.functional.sampling import draw_per_class
from potstill.methods.decoupled._teachers import CHUNK, Member
from potstill.methods.engine import require_tensor

__all__ = ["chosen", "class_mosaics", "drawn", "mosaics", "score"]

Rank: TypeAlias = Literal["lowest", "medium"]

LEAST = 0.08
"""Least part of the area that a crop keeps (torchvision's RandomResizedCrop)."""


def score(members: Sequence[Member], x: Tensor, c: int) -> Tensor:
    """The cross-entropy (n,) of inputs in model space for class ``c``, by the mean of the teachers' logits."""
    logits = torch.stack([member.logits(x) for member in members]).mean(0)
    return F.cross_entropy(logits, torch.full((len(x),), c, device=x.device), reduction="none")


def chosen(scores: Tensor, wanted: int, rank: Rank = "lowest") -> Tensor:
    """The crops that are kept, as positions in ``scores.flatten()``, the most realistic first.

    Of every picture its best crop comes before any picture's second, so that they are of different pictures as long
    as there are enough; where there are fewer crops than wanted, they come again.

    Args:
        scores: (pictures, crops), lower is more realistic.
        wanted: how many.
        rank: ``medium`` takes those about the middle of the best crops, in place of the lowest.
    """
    order = scores.argsort(dim=1, stable=True)
    columns = []
    for j in range(scores.shape[1]):  # the j-th best of every picture, sorted
        here = order[:, j]
        by_score = scores.gather(1, here[:, None])[:, 0].argsort(stable=True)
        columns.append(by_score * scores.shape[1] + here[by_score])
    ranked = torch.cat(columns)
    first = max(0, (len(scores) - wanted) // 2) if rank == "medium" else 0
    return ranked[(first + torch.arange(wanted, device=ranked.device)) % len(ranked)]


def drawn(problem: Problem, c: int, rng: Generator, *, samples: int, crops: int) -> tuple[Tensor, Tensor]:
    """The draws of `class_mosaics`: ``samples`` pictures of a class, and ``crops`` boxes (n, 4) of each of them."""
    (index,) = draw_per_class([problem.class_indices[c]], samples, rng)
    _, h, w = problem.train.input.shape
    return index, boxes(len(index) * crops, h, w, (LEAST, 1.0), (1.0, 1.0), rng)


def class_mosaics(
    problem: Problem, members: Sequence[Member], c: int, rng: Generator, *, samples: int, crops: int, factor: int,
    rank: Rank = "lowest",
) -> Tensor:  # fmt: skip
    """The mosaics (n, c, h, w) of one class in data units, n = ``problem.sizes[c]``.

    Each of ``samples`` random pictures gives ``crops`` square crops of a cell's size. A crop is scored in the middle
    of a black picture, not enlarged, as published.
    """
    channels, h, w = problem.train.input.shape
    index, where = drawn(problem, c, rng, samples=samples, crops=crops)
    pictures, rows = require_tensor(problem.train.raw(index)), where.tolist()
    cell = (max(1, h // factor), max(1, w // factor))

    def patches(numbers: Sequence[int]) -> Tensor:
        return torch.stack([cropped(pictures[n // crops], (*rows[n],), cell) for n in numbers])

    def scored(numbers: Sequence[int]) -> Tensor:
        return score(members, problem.train.normalization.apply(pad_centre(patches(numbers), (h, w))), c)

    every = range(len(rows))  # a pass of crops at a time: all of them would be many times the pictures
    scores = torch.cat([scored(every[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)])
    kept = chosen(scores.reshape(len(pictures), crops), problem.sizes[c] * factor**2, rank)
    return assemble_mosaics(patches(kept.tolist()), factor, (h, w)).reshape(-1, channels, h, w)


def mosaics(
    problem: Problem, members: Sequence[Member], rng: Generator, *, samples: int, crops: int, factor: int,
    rank: Rank = "lowest",
) -> Tensor:  # fmt: skip
    """The mosaics of every class in label order, in model space."""
    made = [
        class_mosaics(problem, members, c, rng, samples=samples, crops=crops, factor=factor, rank=rank)
        for c in range(problem.num_classes)
    ]
    return problem.train.normalization.apply(torch.cat(made))
