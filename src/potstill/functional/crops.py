"""Crops of images and mosaics of patches, as pure functions of drawn values."""

import math
from typing import Literal, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.functional.transforms import resize

__all__ = ["Curriculum", "assemble_mosaics", "crop_resize", "min_crop_area", "pad_centre"]

Curriculum: TypeAlias = Literal["none", "cosine", "linear", "step"]


def crop_resize(
    x: Float[Tensor, "*n h w"], box: tuple[int, int, int, int], size: tuple[int, int]
) -> Float[Tensor, "*n a b"]:
    """Crop one box (top, left, height, width in pixels) from all images and resize it bilinearly to ``size``.

    A box larger than ``size`` is antialiased.
    """
    top, left, height, width = box
    part = x[..., top : top + height, left : left + width]
    if height > size[0] or width > size[1]:
        flat = part.reshape(-1, 1, height, width)
        down = F.interpolate(flat, size, mode="bilinear", align_corners=False, antialias=True)
        return down.reshape(*x.shape[:-2], *size)
    return resize(part, size)


def min_crop_area(t: int, total: int, least: float, curriculum: Curriculum, milestone: float = 1.0) -> float:
    """Return the minimum area of a crop at iteration ``t`` of ``total``: CDA's curriculum (arXiv:2311.18838).

    It falls from 1 to ``least`` at ``milestone · total``: along half a cosine, linearly, or at once (``step``);
    ``none`` is ``least`` throughout.
    """
    end = milestone * total
    if curriculum == "none" or t >= end:
        return least
    if curriculum == "step":
        return 1.0
    fall = (1 + math.cos(math.pi * t / end)) / 2 if curriculum == "cosine" else 1 - t / end
    return least + (1 - least) * fall


def pad_centre(x: Float[Tensor, "n c a b"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Pad images with zeros to ``size``, centred."""
    down, right = size[0] - x.shape[2], size[1] - x.shape[3]
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


def assemble_mosaics(patches: Float[Tensor, "m c a b"], factor: int, size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Assemble images of factor² patches: cell j (in reading order) of image i is patch ``j · n + i``.

    A patch of another size than its cell is resized by nearest neighbour. If ``factor`` does not divide a side, the
    first cells are a pixel smaller than the last.
    """
    n = len(patches) // factor**2
    mosaics = patches.new_zeros(n, patches.shape[1], *size)
    rows, columns = ([side * f // factor for f in range(factor + 1)] for side in size)
    for j in range(factor**2):
        (a, b), (c, d) = rows[j // factor :][:2], columns[j % factor :][:2]
        cell = patches[j * n : (j + 1) * n]
        if cell.shape[2:] != (b - a, d - c):
            cell = F.interpolate(cell, (b - a, d - c), mode="nearest")
        mosaics[:, :, a:b, c:d] = cell
    return mosaics
