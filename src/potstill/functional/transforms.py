"""Linear maps of images as products with two small matrices: the cosine transform and resizing.

Matrix products are differentiable any number of times and, unlike ``F.interpolate``'s backward pass on a GPU,
deterministic. Legend: c h w an image; u v frequencies.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["area_matrix", "bilinear_matrix", "dct2", "dct_matrix", "idct2", "resize", "shrink"]


@lru_cache(maxsize=64)
def dct_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "{n} {n}"]:
    """Return the orthonormal DCT-II as a matrix: entry (u, i) is ``s_u · cos(π (2 i + 1) u / (2 n))``.

    ``s_0 = √(1 / n)`` and otherwise ``s_u = √(2 / n)``; its transpose is its inverse (the DCT-III). Computed in float64
    and cached; do not write into it.

    Args:
        n: samples along the axis, at least 1.
    """
    # A matrix made inside inference mode could take no part in a backward pass later on.
    with torch.inference_mode(False), torch.no_grad():
        u, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        matrix = torch.cos(math.pi * (2 * i + 1) * u / (2 * n)) * math.sqrt(2 / n)
        matrix[0] = math.sqrt(1 / n)
        return matrix.to(device, dtype)


@lru_cache(maxsize=64)
def bilinear_matrix(size: int, to: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "{to} {size}"]:
    """Return linear interpolation of ``size`` samples to ``to`` samples as a matrix (``align_corners=False``).

    Output o reads the input at ``(o + 1/2) · size / to − 1/2``, clamped to the first and last sample, without
    antialiasing. Computed in float64 and cached; do not write into it.
    """
    with torch.inference_mode(False), torch.no_grad():
        at = ((torch.arange(to, dtype=torch.float64) + 0.5) * size / to - 0.5).clamp(0, size - 1)
        low = at.floor().long()
        high = (low + 1).clamp_max(size - 1)
        rows = torch.arange(to)
        matrix = torch.zeros(to, size, dtype=torch.float64)
        matrix[rows, low] += 1 - (at - low)
        matrix[rows, high] += at - low
        return matrix.to(device, dtype)


@lru_cache(maxsize=64)
def area_matrix(size: int, to: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "{to} {size}"]:
    """Return adaptive average pooling as a matrix.

    Output o averages inputs ⌊o · size / to⌋ … ⌈(o + 1) · size / to⌉ − 1. Cached; do not write into it.
    """
    with torch.inference_mode(False), torch.no_grad():
        matrix = torch.zeros(to, size, dtype=torch.float64)
        for o in range(to):
            first, end = o * size // to, -(-(o + 1) * size // to)
            matrix[o, first:end] = 1 / (end - first)
        return matrix.to(device, dtype)


def dct2(x: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Return the orthonormal DCT-II over the last two axes; (0, 0) is the mean times √(h w)."""
    h, w = x.shape[-2:]
    return dct_matrix(h, x.dtype, x.device) @ x @ dct_matrix(w, x.dtype, x.device).T


def idct2(f: Float[Tensor, "*n u v"]) -> Float[Tensor, "*n u v"]:
    """Return the inverse of `dct2`: the orthonormal DCT-III over the last two axes."""
    h, w = f.shape[-2:]
    return dct_matrix(h, f.dtype, f.device).T @ f @ dct_matrix(w, f.dtype, f.device)


def low_frequencies(h: int, w: int) -> Int[Tensor, " hw"]:
    """Return the positions u · w + v of all coefficients in the order of rising u / h + v / w."""
    u, v = (torch.arange(side, dtype=torch.float64) / side for side in (h, w))
    return (u[:, None] + v).flatten().argsort(stable=True)


def resize(x: Float[Tensor, "*n h w"], size: tuple[int, int]) -> Float[Tensor, "*n a b"]:
    """Resize the last two axes bilinearly to ``size``, as ``F.interpolate`` with ``align_corners=False``.

    The same size returns ``x`` itself.
    """
    h, w = x.shape[-2:]
    if (h, w) == size:
        return x
    return bilinear_matrix(h, size[0], x.dtype, x.device) @ x @ bilinear_matrix(w, size[1], x.dtype, x.device).T


def shrink(x: Float[Tensor, "*n h w"], size: tuple[int, int]) -> Float[Tensor, "*n a b"]:
    """Average-pool the last two axes to ``size``; the same size returns ``x`` itself."""
    h, w = x.shape[-2:]
    if (h, w) == size:
        return x
    return area_matrix(h, size[0], x.dtype, x.device) @ x @ area_matrix(w, size[1], x.dtype, x.device).T
