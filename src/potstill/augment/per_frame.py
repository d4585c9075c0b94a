"""Augmentation of clips that stand as frames side by side: every frame of a clip by the same parameters.

A picture of frames that is shifted, turned or scaled as a whole carries each frame's border into the next one, and a
flip of it turns the order of time. Here the frames are cut out, transformed alike, and put back.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.augment.idc import IDCAugment
from potstill.augment.siamese import Siamese
from potstill.core import Augmentation, GeometricAugmentation, InputSpec
from potstill.tasks import GEOMETRIC

__all__ = ["PerFrame", "beside_cutmix", "for_frames", "join_frames", "split_frames"]


def split_frames(x: Float[Tensor, "n c h w"], rows: int, columns: int) -> Float[Tensor, "t n c a b"]:
    """Return the frames of pictures of ``rows × columns`` equal tiles, in the order of time."""
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, rows, h // rows, columns, w // columns)
    return tiles.permute(2, 4, 0, 1, 3, 5).flatten(0, 1)


def join_frames(frames: Float[Tensor, "t n c a b"], rows: int, columns: int) -> Float[Tensor, "n c h w"]:
    """Return pictures of ``rows × columns`` tiles: the inverse of `split_frames`."""
    _, n, c, a, b = frames.shape
    tiles = frames.reshape(rows, columns, n, c, a, b).permute(2, 3, 0, 4, 1, 5)
    return tiles.reshape(n, c, rows * a, columns * b)


@dataclass(frozen=True, kw_only=True)
class PerFrame:
    """An augmentation of pictures, applied to each frame of a clip with the parameters of the clip."""

    inner: Augmentation
    rows: int
    columns: int

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`: all, where ``inner`` does not name its own."""
        return self.inner.geometric if isinstance(self.inner, GeometricAugmentation) else tuple(GEOMETRIC)

    def without(self, operations: Collection[str], /) -> Augmentation:
        """Return a copy without these operations."""
        if not isinstance(self.inner, GeometricAugmentation):
            raise TypeError(f"{type(self.inner).__name__} does not name its operations")
        return replace(self, inner=self.inner.without(operations))

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> Any:
        """Draw parameters for the frames of ``n`` clips, as for ``n`` pictures of a frame's shape."""
        c, h, w = shape
        return self.inner.draw(n, (c, h // self.rows, w // self.columns), rng)

    def apply(self, x: Tensor, params: Any, /) -> Tensor:
        """Transform every frame of ``x`` (m, c, h, w) by its clip's parameters."""
        frames = split_frames(x, self.rows, self.columns)
        return join_frames(torch.stack([self.inner.apply(f, params) for f in frames]), self.rows, self.columns)


def for_frames(augment: Augmentation, input: InputSpec) -> Augmentation:
    """Return the augmentation as it applies to such inputs: frame by frame where they are frames of clips."""
    if not input.frames or (isinstance(augment, Siamese) and not augment.strategy):
        return augment
    rows, columns = input.frames
    return PerFrame(inner=augment, rows=rows, columns=columns)


def beside_cutmix(augment: Augmentation) -> Augmentation:
    """Return the augmentation without IDC's cutout, which CutMix replaces (`IDCAugment.beside_cutmix`)."""
    if isinstance(augment, PerFrame):
        return replace(augment, inner=beside_cutmix(augment.inner))
    return augment.beside_cutmix() if isinstance(augment, IDCAugment) else augment
