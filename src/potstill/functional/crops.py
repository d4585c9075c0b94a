"""Crops of pictures, and pictures put together from others, as functions of values that were drawn before."""

import math
from typing import Literal, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.functional.transforms import resize

__all__ = ["Curriculum", "assemble_mosaics", "cropped", "min_crop_area", "pad_centre"]

Curriculum: TypeAlias = Literal["none", "cosine", "linear", "step"]


def cropped(
    x: Float[Tensor, "*n h w"], box: tuple[int, int, int, int], size: tuple[int, int]
) -> Float[Tensor, "*n a b"]:
    """One box (top, left, height, width in pixels) of all pictures, resized bilinearly to ``size``, differentiable.

    A box that is larger than ``size`` is averaged down, so that no pixel is skipped.
    """
    top, left, height, width = box
    part = x[..., top : top + height, left : left + width]
    if height > size[0] or width > size[1]:
        flat = part.reshape(-1, 1, height, width)
        down = F.interpolate(flat, size, mode="bilinear", align_corners=False, antialias=True)
        return down.reshape(*x.shape[:-2], *size)
    return resize(part, size)


def min_crop_area(t: int, total: int, least: float, curriculum: Curriculum, milestone: float = 1.0) -> float:
    """The least area of a crop at iteration ``t`` of ``total``: CDA's curriculum (arXiv:2311.18838).

    From the whole picture at the beginning down to ``least`` at ``milestone · total`` and from there on: along half a
    cosine, along a line, or at once (``step``); ``none`` is ``least`` throughout.
    """
    end = milestone * total
    if curriculum == "none" or t >= end:
        return least
    if curriculum == "step":
        return 1.0
    fall = (1 + math.cos(math.pi * t / end)) / 2 if curriculum == "cosine" else 1 - t / end
    return least + (1 - least) * fall


def pad_centre(x: Float[Tensor, "n c a b"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Pictures in the middle of a canvas of zeros of ``size``, at least as large as they are."""
    down, right = size[0] - x.shape[2], size[1] - x.shape[3]
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


def assemble_mosaics(patches: Float[Tensor, "m c a b"], factor: int, size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Pictures of factor² patches: cell j (in reading order) of picture i is patch ``j · n + i`` of m = n · factor².

    A patch that is not as large as its cell is resized to it by the nearest pixel. Where ``factor`` does not divide a
    side, the cells before are smaller by a pixel than those behind.
    """
    n = len(patches) // factor**2
    made = patches.new_zeros(n, patches.shape[1], *size)
    rows, columns = ([side * f // factor for f in range(factor + 1)] for side in size)
    for j in range(factor**2):
        (a, b), (c, d) = rows[j // factor :][:2], columns[j % factor :][:2]
        own = patches[j * n : (j + 1) * n]
        if own.shape[2:] != (b - a, d - c):
            own = F.interpolate(own, (b - a, d - c), mode="nearest")
        made[:, :, a:b, c:d] = own
    return made
