"""Parts of a recovery, as values: what pictures begin as, how they are seen, their stages, who moves, what is lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.crop import boxes
from potstill.core import InputSpec, Problem
from potstill.functional.crops import Curriculum, cropped, min_crop_area
from potstill.functional.statistics import densification, mean_l2_norm, total_variation
from potstill.functional.transforms import resize
from potstill.methods.decoupled._realism import Rank, mosaics
from potstill.methods.decoupled._teachers import Member
from potstill.methods.engine import initial_inputs

__all__ = ["Begin", "Beginning", "Groups", "Prior", "Stages", "Start", "View", "groups"]

RATIO = (3 / 4, 4 / 3)
"""Width to height of a crop, at least and at most (torchvision's RandomResizedCrop)."""

Start: TypeAlias = Literal["noise", "real", "mosaic"]
"""What items begin as: standard normal noise, random real samples, or mosaics of realistic crops (RDED's)."""

Begin: TypeAlias = Callable[[Problem, Sequence[Member], Generator], Tensor]
"""Makes what all items begin as, in model space, classes in label order."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Noise, real samples, or mosaics."""

    how: Start
    rank: Rank
    factor: int
    samples: int
    crops: int

    def __call__(self, problem: Problem, members: Sequence[Member], rng: Generator) -> Tensor:
        if problem.initial is not None:
            return initial_inputs(problem, "real", rng)
        if self.how != "mosaic":
            return initial_inputs(problem, self.how, rng)
        return mosaics(
            problem, members, rng, samples=self.samples, crops=self.crops, factor=self.factor, rank=self.rank
        )


@dataclass(frozen=True, kw_only=True)
class View:
    """How the teachers see a batch: under one crop, move, flip and roll."""

    crop: float
    curriculum: Curriculum
    milestone: float
    flip: bool
    pad: int
    jitter: int

    def __call__(self, x: Tensor, t: int, total: int, spec: InputSpec, rng: Generator) -> Tensor:
        """The batch (n, c, h', w') at iteration ``t`` of ``total``, of the size that the data has.

        Not every teacher takes pictures of another size, so those of a stage that is smaller are enlarged.
        """
        (h, w), (_, height, width) = x.shape[2:], spec.shape
        size = (height, width)
        least = min_crop_area(t, total, self.crop, self.curriculum, self.milestone)
        if least < 1:
            top, left, rows, columns = boxes(1, h, w, (least, 1.0), RATIO, rng)[0].tolist()
            x = cropped(x, (top, left, rows, columns), size)
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
    """What else the loss has of the pictures, as the teachers see them."""

    tv: float
    l2: float
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: its temperature."""

    def __call__(self, view: Tensor, y: Tensor) -> Tensor:
        total = view.new_zeros(())
        if self.tv:
            total = total + self.tv * total_variation(view)
        if self.l2:
            total = total + self.l2 * mean_l2_norm(view)
        return total + self.densify * densification(view, y, self.tau) if self.densify else total


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Parts of a batch's iterations, of equal length; with each Adam begins anew."""

    count: int = 1
    alpha: float = 1.0
    """What a picture keeps of itself between two of them; the rest is what it began as."""
    shrink: float = 1.0
    """Sides of every second stage, counted back from the last but one, as a part of the picture's."""

    def at(self, t: int, total: int) -> int:
        """The stage of an iteration; where there are more stages than iterations, some are left out."""
        return t * self.count // total

    def begins(self, t: int, total: int) -> bool:
        """Whether a further one begins with this iteration."""
        return t > 0 and self.at(t, total) != self.at(t - 1, total)

    def size(self, shape: tuple[int, ...], stage: int) -> tuple[int, int]:
        """Height and width of a stage of pictures (c, h, w)."""
        _, h, w = shape
        if (self.count - 1 - stage) % 2 == 0:
            return h, w
        return max(1, round(self.shrink * h)), max(1, round(self.shrink * w))


def groups(n: int, rounds: int) -> list[int]:
    """The group of each of ``n`` items: nearly equal parts, the first ``n % rounds`` one larger."""
    return [g for g in range(rounds) for _ in range(n // rounds + (g < n % rounds))]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which items move: those of each class in so many groups, of which one more enters every so many iterations."""

    count: int = 1
    every: int = 1

    def entered(self, sizes: Sequence[int], items: Tensor, t: int) -> Tensor:
        """Which of the batch's items iteration ``t`` moves (b,)."""
        group = torch.tensor([g for n in sizes for g in groups(n, self.count)])[items]
        return group <= t // self.every
