"""IDC's differentiable augmentation (arXiv:2205.14959, misc/augment.py of the published code; NCFM has the same).

It is made of DSA's operations with DSA's ranges and acts on normalised pictures, but it applies several at once: flip,
then color, then **one** of the remaining operations that are listed (crop, scale, rotate), then cutout. Those of flip,
color and cutout that are listed always apply.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from potstill.augment.siamese import GROUPS, MOVING, Siamese, SiameseParams
from potstill.errors import PotstillError, unknown_name
from potstill.tasks import Movement

__all__ = ["IDCAugment", "cim", "cim_noflip", "idc", "idc_eval", "idc_eval_noflip"]

_ALWAYS = ("flip", "color", "cutout")


@dataclass(frozen=True, slots=True, kw_only=True)
class IDCAugment:
    """Some operations always and one of the others; a `potstill.core.Augmentation`.

    The one is drawn evenly for each call of ``draw``, so for a whole batch, also where every sample has parameters of
    its own. Which operations apply does not depend on the order in which they are listed.

    Attributes:
        strategy: which operations; empty for none.
        ranges: their ranges; its own ``strategy`` and ``mode`` are not looked at.

    Raises:
        PotstillError: an unknown operation, or one that is listed twice.
    """

    strategy: tuple[str, ...] = ("color", "crop", "cutout")
    ranges: Siamese = field(default_factory=Siamese)

    def __post_init__(self) -> None:
        for place, group in enumerate(self.strategy):
            if group not in GROUPS:
                raise unknown_name("augmentation group", group, GROUPS)
            if group in self.strategy[:place]:
                raise PotstillError(f"an augmentation lists each group once, but {group!r} stands twice; drop one")

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> SiameseParams:
        """Parameters for ``n`` pictures of ``shape`` (c, h, w), or with ``n = 1`` for a whole batch.

        Raises:
            PotstillError: the shape is not that of a picture.
        """
        one = [group for group in self.strategy if group not in _ALWAYS]
        if one:
            one = [one[int(torch.randint(len(one), (1,), generator=rng))]]
        first, last = (
            [g for g in ("flip", "color") if g in self.strategy],
            [g for g in ("cutout",) if g in self.strategy],
        )
        return replace(self.ranges, strategy=(*first, *one, *last), mode="M").draw(n, shape, rng)

    def apply(self, x: Tensor, params: SiameseParams, /) -> Tensor:
        """``x`` (m, c, h, w), float32 or float64, transformed; of the same shape; ``x`` itself where nothing changes.

        Raises:
            ValueError: the parameters were drawn for another number of samples, and not for one.
        """
        return self.ranges.apply(x, params)

    @property
    def geometric(self) -> tuple[str, ...]:
        """What moves pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(MOVING[group] for group in self.strategy if group in MOVING)

    def without(self, operations: Collection[str], /) -> "IDCAugment":
        """The same without the groups that do these."""
        return replace(self, strategy=tuple(g for g in self.strategy if MOVING.get(g) not in operations))

    def movement(self, params: SiameseParams, shape: tuple[int, ...], /) -> Movement:
        """How `apply` with ``params`` moves the pixels of pictures of ``shape`` (c, h, w)."""
        return self.ranges.movement(params, shape)

    def beside_cutmix(self) -> "IDCAugment":
        """The same without cutout, as published wherever CutMix cuts already (condense.py, diffaug)."""
        return replace(self, strategy=tuple(g for g in self.strategy if g != "cutout"))


def idc() -> IDCAugment:
    """IDC's augmentation for matching: color, crop and cutout, all of them."""
    return IDCAugment()


def idc_eval() -> IDCAugment:
    """What IDC and NCFM train students with: flip, color, and one of crop, scale and rotate.

    Cutout is struck out of the published strategy wherever CutMix is used.
    """
    return IDCAugment(strategy=("color", "crop", "flip", "scale", "rotate"))


def idc_eval_noflip() -> IDCAugment:
    """IDC's augmentation for students without mirror images, as published for digits (MNIST, SVHN)."""
    return IDCAugment(strategy=("color", "crop", "scale", "rotate"))


def cim() -> IDCAugment:
    """What CIM matches features under: flip, crop and cutout, all of them, without color."""
    return IDCAugment(strategy=("flip", "crop", "cutout"))


def cim_noflip() -> IDCAugment:
    """The same for pictures that may not be mirrored."""
    return IDCAugment(strategy=("crop", "cutout"))
