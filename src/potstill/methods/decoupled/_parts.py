"""Parts of a recovery as values: initial images, view, prior, stages and groups of items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.crop import boxes
from potstill.core import InputSpec, Problem
from potstill.functional.crops import Curriculum, crop_resize, min_crop_area
from potstill.functional.statistics import densification, mean_l2_norm, total_variation
from potstill.functional.transforms import resize
from potstill.methods.decoupled._realism import Rank, make_mosaics
from potstill.methods.decoupled._teachers import TeacherNetwork
from potstill.methods.engine import initial_inputs, overlay_initial

__all__ = ["Groups", "ImageInit", "ImageInitName", "InitialImages", "Prior", "Stages", "View", "group_numbers"]

RATIO = (3 / 4, 4 / 3)
"""Range of a crop's width over height (torchvision's RandomResizedCrop)."""

ImageInitName: TypeAlias = Literal["noise", "real", "mosaic"]
"""Initial images: standard normal noise, random real samples, or mosaics of realistic crops (RDED's)."""

InitialImages: TypeAlias = Callable[[Problem, Sequence[TeacherNetwork], Generator], Tensor]
"""Function that returns the initial images of all items, in model space, in label order."""


@dataclass(frozen=True, kw_only=True)
class ImageInit:
    """Initial images: noise, real samples, or mosaics."""

    init: ImageInitName
    rank: Rank
    factor: int
    samples: int
    crops: int

    def __call__(self, problem: Problem, members: Sequence[TeacherNetwork], rng: Generator) -> Tensor:
        given = problem.initial is not None and problem.initial_rows is None
        if given or self.init != "mosaic":
            return initial_inputs(problem, "real" if self.init == "mosaic" else self.init, rng)
        mosaics = make_mosaics(
            problem, members, rng, samples=self.samples, crops=self.crops, factor=self.factor, rank=self.rank
        )
        return overlay_initial(problem, mosaics)


@dataclass(frozen=True, kw_only=True)
class View:
    """Augmentation of a batch for the teachers: one crop, shift, flip and roll for all of it."""

    crop: float
    curriculum: Curriculum
    milestone: float
    flip: bool
    pad: int
    jitter: int

    def __call__(self, x: Tensor, t: int, total: int, spec: InputSpec, rng: Generator) -> Tensor:
        """Return the batch (n, c, h', w') at iteration ``t`` of ``total``, resized to the data's size."""
        (h, w), (_, height, width) = x.shape[2:], spec.shape
        size = (height, width)
        least = min_crop_area(t, total, self.crop, self.curriculum, self.milestone)
        if least < 1:
            top, left, rows, columns = boxes(1, h, w, (least, 1.0), RATIO, rng)[0].tolist()
            x = crop_resize(x, (top, left, rows, columns), size)
        else:
            x = resize(x, size)
        if self.pad:
            top, left = torch.randint(2 * self.pad + 1, (2,), generator=rng).tolist()
            x = F.pad(x, (self.pad,) * 4)[..., top : top + height, left : left + width]
        if self.flip and spec.horizontal_flip and bool(torch.rand((), generator=rng) < 0.5):
            x = x.flip(3)
        if self.jitter:
            down, right = torch.randint(self.jitter + 1, (2,), generator=rng).tolist()
            x = x.roll((down, right), (2, 3))
        return x


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Loss terms of the images alone."""

    tv: float
    l2: float
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: temperature of data densification."""

    def __call__(self, view: Tensor, y: Tensor) -> Tensor:
        total = view.new_zeros(())
        if self.tv:
            total = total + self.tv * total_variation(view)
        if self.l2:
            total = total + self.l2 * mean_l2_norm(view)
        return total + self.densify * densification(view, y, self.tau) if self.densify else total


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Equal parts of a batch's iterations; Adam restarts with each."""

    count: int = 1
    alpha: float = 1.0
    """Fraction of an image kept between two stages; the rest is the initial image."""
    shrink: float = 1.0
    """Relative side of every second stage, counted back from the last but one."""

    def stage_of(self, t: int, total: int) -> int:
        """Return the stage of iteration ``t``; stages beyond the number of iterations are skipped."""
        return t * self.count // total

    def is_new_stage(self, t: int, total: int) -> bool:
        """Return True if iteration ``t`` starts a stage other than the first."""
        return t > 0 and self.stage_of(t, total) != self.stage_of(t - 1, total)

    def image_size(self, shape: tuple[int, ...], stage: int) -> tuple[int, int]:
        """Return height and width of images (c, h, w) in a stage."""
        _, h, w = shape
        if (self.count - 1 - stage) % 2 == 0:
            return h, w
        return max(1, round(self.shrink * h)), max(1, round(self.shrink * w))


def group_numbers(n: int, rounds: int) -> list[int]:
    """Return the group of each of ``n`` items: nearly equal parts, the first ``n % rounds`` one larger."""
    return [g for g in range(rounds) for _ in range(n // rounds + (g < n % rounds))]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups of each class's items, of which one more starts to move every ``every`` iterations."""

    count: int = 1
    every: int = 1

    def active_items(self, sizes: Sequence[int], items: Tensor, t: int) -> Tensor:
        """Return True (b,) for items of the batch that move in iteration ``t``."""
        group = torch.tensor([g for n in sizes for g in group_numbers(n, self.count)])[items]
        return group <= t // self.every
