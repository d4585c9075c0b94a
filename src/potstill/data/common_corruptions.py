"""Ten common corruptions of colour pictures at five severities, after Hendrycks and Dietterich (arXiv:1903.12261).

Severities are those of CIFAR-10-C, for pictures of 32×32. Re-implemented on tensors, and
not bit by bit the same. Other than theirs: *frost* takes drawn crystals in place of photographs of a window, *fog* and
frost are sums of octaves of smooth noise in place of a fractal by midpoints, the edges of drops of *spatter* are not
brightened, and *saturate* leaves grey pixels grey.
"""

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt_pictures"]

SEVERITIES = 5
_GREY = (0.299, 0.587, 0.114)
"""Weights of the channels of a grey value."""
_WATER, _MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)
_ICE = (0.86, 0.93, 1.0)


def corrupt_pictures(
    name: str, x: Float[Tensor, "n 3 h w"], severity: int, rng: Generator
) -> Float[Tensor, "n 3 h w"]:  # fmt: skip
    """Return pictures with one of `CORRUPTIONS`.

    Args:
        name: name of the corruption.
        x: colour pictures in [0, 1].
        severity: 1 to 5.
        rng: draws flakes, drops and directions.

    Raises:
        PotstillError: the severity is out of its range.
    """
    if severity not in range(1, SEVERITIES + 1):
        raise PotstillError(f"the severity of {name} must be 1 to {SEVERITIES}, not {severity}; change it")
    return CORRUPTIONS[name](x, severity - 1, rng).clamp(0, 1) if len(x) else x


def _normal(x: Tensor, mean: float, deviation: float, rng: Generator) -> Float[Tensor, "n 1 h w"]:
    return mean + deviation * torch.randn(len(x), 1, *x.shape[2:], generator=rng)


def _blurred(x: Float[Tensor, "n c h w"], sigma: float) -> Float[Tensor, "n c h w"]:
    """Blur by a Gaussian of ``sigma`` pixels, edges repeated."""
    reach = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    taps, c = taps / taps.sum(), x.shape[1]
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, taps.reshape(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
    return F.conv2d(x, taps.reshape(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)


def _octaves(x: Tensor, decay: float, rng: Generator) -> Float[Tensor, "n 1 h w"]:
    """Return smooth fields in [0, 1]: noise on grids of 2, 4, 8 … points, each weighted ``decay`` times less."""
    h, w = x.shape[2:]
    field, weight, points = torch.zeros(len(x), 1, h, w), 1.0, 2
    while points < 2 * max(h, w):
        noise = torch.rand(len(x), 1, min(points + 1, h), min(points + 1, w), generator=rng)
        field = field + weight * F.interpolate(noise, (h, w), mode="bilinear", align_corners=True)
        weight, points = weight / decay, 2 * points
    low, high = field.amin((1, 2, 3), keepdim=True), field.amax((1, 2, 3), keepdim=True)
    return (field - low) / (high - low).clamp(min=1e-6)


def _grid(x: Tensor) -> Float[Tensor, "n h w 2"]:
    """Return where each pixel is read from if nothing moves, in [−1, 1]."""
    return F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)


def _streaked(x: Float[Tensor, "n 1 h w"], radius: int, sigma: float, rng: Generator) -> Float[Tensor, "n 1 h w"]:
    """Blur along one direction of each picture, between 45° to the left and to the right of straight down."""
    angle = math.pi * (0.25 + 0.5 * torch.rand(len(x), generator=rng))
    step = torch.stack([angle.cos() * 2 / x.shape[3], angle.sin() * 2 / x.shape[2]], 1)[:, None, None]
    weights = torch.exp(-(torch.arange(radius + 1).float() ** 2) / (2 * sigma**2))
    grid, found = _grid(x), torch.zeros_like(x)
    for n, weight in enumerate((weights / weights.sum()).tolist()):
        found = found + weight * F.grid_sample(x, grid + n * step, align_corners=False, padding_mode="zeros")
    return found


def _snow(x: Tensor, at: int, rng: Generator) -> Tensor:
    mean, deviation, zoom, least, radius, sigma, kept = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95), (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )[at]  # fmt: skip
    flakes = F.grid_sample(_normal(x, mean, deviation, rng), _grid(x) / zoom, align_corners=False)
    flakes = _streaked(torch.where(flakes < least, 0.0, flakes).clamp(0, 1), radius, sigma, rng)
    grey = (x * torch.tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    return kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5) + flakes + flakes.flip(2, 3)


def _frost(x: Tensor, at: int, rng: Generator) -> Tensor:
    kept, ice = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[at]
    ridges = 1 - (2 * _octaves(x, 1.3, rng) - 1).abs()
    return kept * x + ice * ridges * torch.tensor(_ICE)[:, None, None]


def _fog(x: Tensor, at: int, rng: Generator) -> Tensor:
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[at]
    most = x.amax((1, 2, 3), keepdim=True)
    return (x + amount * _octaves(x, decay, rng)) * most / (most + amount)


def _brightness(x: Tensor, at: int, rng: Generator) -> Tensor:
    """Add to the value (the largest channel) at the same hue and saturation."""
    value = x.amax(1, keepdim=True)
    higher = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[at]).clamp(max=1)
    return torch.where(value > 0, x * higher / value.clamp(min=1e-6), higher)


def _contrast(x: Tensor, at: int, rng: Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[at] * (x - mean)


def _spatter(x: Tensor, at: int, rng: Generator) -> Tensor:
    mean, deviation, sigma, least, amount, is_mud = (
        (0.62, 0.1, 0.7, 0.7, 0.5, False), (0.65, 0.1, 0.8, 0.7, 0.5, False), (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True), (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )[at]  # fmt: skip
    liquid = _blurred(_normal(x, mean, deviation, rng), sigma)
    drops = (liquid > least).float()
    if is_mud:
        drops = _blurred(drops, amount)
        drops = torch.where(drops < 0.8, 0.0, drops)
        return x * (1 - drops) + drops * torch.tensor(_MUD)[:, None, None]
    shine = F.avg_pool2d(F.pad(drops * liquid, (1,) * 4, mode="replicate"), 3, 1)
    shine = amount * shine / shine.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return x + shine * torch.tensor(_WATER)[:, None, None]


def _elastic(x: Tensor, at: int, rng: Generator) -> Tensor:
    """Move three corners of the middle at random, and each pixel by a smooth field, read with reflected edges."""
    amount, smooth, jitter = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                              (0.1, 0.03, 0.03))[at]  # fmt: skip
    n, _, h, w = x.shape
    middle = 2 / 3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    corners = torch.cat([middle, torch.ones(3, 1)], 1)
    moved = middle + 2 * jitter * (2 * torch.rand(n, 3, 2, generator=rng) - 1)
    theta = torch.linalg.solve(corners.expand(n, 3, 3), moved).transpose(1, 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    if amount:
        noise = 2 * torch.rand(n, 2, h, w, generator=rng) - 1
        grid = grid + 2 * amount * _blurred(noise, smooth * min(h, w)).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False, padding_mode="reflection")


def _jpeg(x: Tensor, at: int, rng: Generator) -> Tensor:
    rows = []
    for picture in (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=(80, 65, 58, 50, 40)[at])
        rows.append(torch.from_numpy(np.array(Image.open(stream))))
    return torch.stack(rows).permute(0, 3, 1, 2).float() / 255


def _pixelate(x: Tensor, at: int, rng: Generator) -> Tensor:
    h, w = x.shape[2:]
    part = (0.95, 0.9, 0.85, 0.75, 0.65)[at]
    return F.interpolate(F.interpolate(x, (max(1, int(part * h)), max(1, int(part * w))), mode="area"), (h, w))


def _saturate(x: Tensor, at: int, rng: Generator) -> Tensor:
    """Change the saturation at the same hue and value."""
    factor, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[at]
    value = x.amax(1, keepdim=True)
    saturation = (value - x.amin(1, keepdim=True)) / value.clamp(min=1e-6)
    wanted = torch.where(saturation > 0, (factor * saturation + more).clamp(0, 1), 0.0)
    return value - (value - x) * wanted / saturation.clamp(min=1e-6)


CORRUPTIONS: Mapping[str, Callable[[Tensor, int, Generator], Tensor]] = {
    "snow": _snow, "frost": _frost, "fog": _fog, "brightness": _brightness, "contrast": _contrast,
    "spatter": _spatter, "elastic": _elastic, "jpeg": _jpeg, "pixelate": _pixelate, "saturate": _saturate,
}  # fmt: skip
"""Corruptions by name, in the order in which CCIFAR10-DD gives them to classes."""
