"""Realistic crops and mosaics of them (Sun et al., RDED, arXiv:2312.03526)."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.crop import boxes
from potstill.core import Problem
from potstill.data.real_data import RealData
from potstill.functional.crops import assemble_mosaics, crop_resize, pad_centre
from potstill.functional.sampling import sample_distinct
from potstill.methods.decoupled._teachers import CHUNK, TeacherNetwork
from potstill.methods.engine import require_tensor
from potstill.rng import class_generators

__all__ = ["class_mosaics", "draw_crops", "make_mosaics", "select_crops", "teacher_cross_entropy"]

Rank: TypeAlias = Literal["lowest", "medium"]

MIN_AREA = 0.08
"""Minimum area of a crop as a fraction of the image's (torchvision's RandomResizedCrop)."""


def teacher_cross_entropy(members: Sequence[TeacherNetwork], x: Tensor, c: int) -> Tensor:
    """Return the cross-entropy (n,) of inputs in model space for class ``c``, by the mean of the teachers' logits."""
    logits = torch.stack([member.logits(x) for member in members]).mean(0)
    return F.cross_entropy(logits, torch.full((len(x),), c, device=x.device), reduction="none")


def select_crops(scores: Tensor, count: int, rank: Rank = "lowest") -> Tensor:
    """Select crops, as positions in ``scores.flatten()``, the most realistic first.

    The best crop of every image comes before any image's second, so that crops are of different images if possible; if
    there are fewer crops than ``count``, they repeat.

    Args:
        scores: (images, crops), lower is more realistic.
        count: number to select.
        rank: ``medium`` takes crops around the middle of the best ones, instead of the lowest scores.
    """
    order = scores.argsort(dim=1, stable=True)
    columns = []
    for j in range(scores.shape[1]):  # the j-th best of every image, sorted
        crop = order[:, j]
        by_score = scores.gather(1, crop[:, None])[:, 0].argsort(stable=True)
        columns.append(by_score * scores.shape[1] + crop[by_score])
    ranked = torch.cat(columns)
    first = max(0, (len(scores) - count) // 2) if rank == "medium" else 0
    return ranked[(first + torch.arange(count, device=ranked.device)) % len(ranked)]


def draw_crops(problem: Problem, c: int, rng: Generator, *, samples: int, crops: int) -> tuple[Tensor, Tensor]:
    """Draw ``samples`` images of a class, and ``crops`` boxes (n, 4) of each of them."""
    index = problem.class_indices[c]
    index = index[sample_distinct(len(index), samples, rng)]
    _, h, w = problem.train.input.shape
    return index, boxes(len(index) * crops, h, w, (MIN_AREA, 1.0), (1.0, 1.0), rng)


def class_mosaics(
    problem: Problem, members: Sequence[TeacherNetwork], c: int, rng: Generator, *, samples: int, crops: int,
    factor: int, rank: Rank = "lowest",
) -> Tensor:  # fmt: skip
    """Return the mosaics (n, c, h, w) of one class in data units, n = ``problem.sizes[c]``.

    Each of ``samples`` random images gives ``crops`` square crops of a cell's size. A crop is scored in the middle of a
    black image, not enlarged, as published.
    """
    channels, h, w = problem.train.input.shape
    index, drawn_boxes = draw_crops(problem, c, rng, samples=samples, crops=crops)
    images, rows = require_tensor(RealData.of(problem).raw(index)), drawn_boxes.tolist()
    cell = (max(1, h // factor), max(1, w // factor))

    def patches(numbers: Sequence[int]) -> Tensor:
        return torch.stack([crop_resize(images[n // crops], (*rows[n],), cell) for n in numbers])

    def score(numbers: Sequence[int]) -> Tensor:
        x = problem.train.normalization.apply(pad_centre(patches(numbers), (h, w)))
        return teacher_cross_entropy(members, x, c)

    every = range(len(rows))  # in chunks: all crops would take many times the memory of the images
    scores = torch.cat([score(every[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)])
    selected = select_crops(scores.reshape(len(images), crops), problem.sizes[c] * factor**2, rank)
    return assemble_mosaics(patches(selected.tolist()), factor, (h, w)).reshape(-1, channels, h, w)


def make_mosaics(
    problem: Problem, members: Sequence[TeacherNetwork], rng: Generator, *, samples: int, crops: int, factor: int,
    rank: Rank = "lowest",
) -> Tensor:  # fmt: skip
    """Return the mosaics of every class in label order, in model space."""
    mosaics = [
        class_mosaics(problem, members, c, g, samples=samples, crops=crops, factor=factor, rank=rank)
        for c, g in enumerate(class_generators(rng, problem.class_names))
    ]
    return problem.train.normalization.apply(torch.cat(mosaics))
