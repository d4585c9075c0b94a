"""IDC's differentiable augmentation (arXiv:2205.14959, misc/augment.py of the published code; NCFM has the same).

DSA's operations and ranges on normalised images, several at once: flip, color, **one** of the listed crop, scale and
rotate, then cutout. Listed flip, color and cutout always apply.
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
    """Several operations always and one of the others; a `potstill.core.Augmentation`.

    The one is drawn uniformly per call of ``draw``, also with per-sample parameters. Their order does not matter.

    Attributes:
        strategy: names of operations; empty for none.
        ranges: ranges of the operations; its ``strategy`` and ``mode`` are ignored.

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
        """Draw parameters for ``n`` images of ``shape`` (c, h, w); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, h, w).
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
        """Transform ``x`` (m, c, h, w), float32 or float64; returns ``x`` itself if nothing changes.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        return self.ranges.apply(x, params)

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(MOVING[group] for group in self.strategy if group in MOVING)

    def without(self, operations: Collection[str], /) -> "IDCAugment":
        """Return the augmentation without the groups that do these."""
        return replace(self, strategy=tuple(g for g in self.strategy if MOVING.get(g) not in operations))

    def movement(self, params: SiameseParams, shape: tuple[int, ...], /) -> Movement:
        """Return the movement of pixels by `apply` with ``params``, for images of ``shape`` (c, h, w)."""
        return self.ranges.movement(params, shape)

    def beside_cutmix(self) -> "IDCAugment":
        """Return the augmentation without cutout, as published for training with CutMix (condense.py, diffaug)."""
        return replace(self, strategy=tuple(g for g in self.strategy if g != "cutout"))


def idc() -> IDCAugment:
    """IDC's augmentation for matching: color, crop and cutout."""
    return IDCAugment()


def idc_eval() -> IDCAugment:
    """Augmentation of IDC's and NCFM's students: flip, color, one of crop, scale, rotate; CutMix replaces cutout."""
    return IDCAugment(strategy=("color", "crop", "flip", "scale", "rotate"))


def idc_eval_noflip() -> IDCAugment:
    """The same without flips, as published for digits (MNIST, SVHN)."""
    return IDCAugment(strategy=("color", "crop", "scale", "rotate"))


def cim() -> IDCAugment:
    """CIM's augmentation for matching: flip, crop and cutout."""
    return IDCAugment(strategy=("flip", "crop", "cutout"))


def cim_noflip() -> IDCAugment:
    """The same without flips."""
    return IDCAugment(strategy=("crop", "cutout"))
