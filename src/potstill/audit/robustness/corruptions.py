"""Corruptions of pictures in [0, 1], after the kinds of Hendrycks and Dietterich (arXiv:1903.12261).

Kinds are theirs; formulas and the one severity are ours, for pictures of any size. So numbers are comparable between
training sets of one audit, not with those of ImageNet-C.
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

from potstill.rng import generator

__all__ = ["CORRUPTIONS", "corrupt"]


def corrupt(name: str, x: Float[Tensor, "n c h w"], seed: int) -> Float[Tensor, "n c h w"]:
    """Return pictures with the corruption ``name`` of `CORRUPTIONS`.

    Args:
        seed: seed of the draws; equal seeds give equal pictures.
    """
    return CORRUPTIONS[name](x, generator(seed, "corruption", name)).clamp(0, 1)


def _gaussian_noise(x: Tensor, rng: Generator) -> Tensor:
    return x + 0.15 * torch.randn(x.shape, generator=rng).to(x)


def _impulse_noise(x: Tensor, rng: Generator) -> Tensor:
    """Set a tenth of the values to 0 or 1."""
    draws = torch.rand(x.shape, generator=rng).to(x)
    return torch.where(draws < 0.05, 0.0, torch.where(draws > 0.95, 1.0, x))


def _blur(x: Tensor, rng: Generator) -> Tensor:
    """Blur by a Gaussian of 1/25 of the shorter side, edges repeated."""
    sigma = min(x.shape[2:]) / 25
    reach = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-(torch.arange(-reach, reach + 1).to(x) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    c = x.shape[1]
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, taps.reshape(1, 1, -1, 1).repeat(c, 1, 1, 1), groups=c)
    return F.conv2d(rows, taps.reshape(1, 1, 1, -1).repeat(c, 1, 1, 1), groups=c)


def _pixelate(x: Tensor, rng: Generator) -> Tensor:
    """Average to half the height and width, and repeat pixels."""
    h, w = x.shape[2:]
    small = F.adaptive_avg_pool2d(x, (max(1, h // 2), max(1, w // 2)))
    return F.interpolate(small, size=(h, w), mode="nearest")


def _jpeg(x: Tensor, rng: Generator) -> Tensor:
    """Encode as JPEG of quality 10: three channels as colour, others each as grey."""
    n, c, h, w = x.shape
    pixels = (255 * x).round().byte().cpu()
    layers = pixels.permute(0, 2, 3, 1) if c == 3 else pixels.reshape(n * c, h, w)
    decoded = []
    for layer in layers.numpy():
        stream = io.BytesIO()
        Image.fromarray(layer).save(stream, "JPEG", quality=10)
        decoded.append(torch.from_numpy(np.array(Image.open(stream))))
    found = torch.stack(decoded).to(x) / 255
    return found.permute(0, 3, 1, 2) if c == 3 else found.reshape(n, c, h, w)


def _contrast(x: Tensor, rng: Generator) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + 0.3 * (x - mean)


def _brightness(x: Tensor, rng: Generator) -> Tensor:
    return x + 0.3


def _shift(x: Tensor, rng: Generator) -> Tensor:
    """Move each picture by a tenth of its sides into one of four directions, edges repeated."""
    n, _, h, w = x.shape
    down, right = max(1, round(h / 10)), max(1, round(w / 10))
    padded = F.pad(x, (right, right, down, down), mode="replicate")
    moved = torch.stack([padded[:, :, 2 * a * down :, 2 * b * right :][:, :, :h, :w] for a in (0, 1) for b in (0, 1)])
    return moved[torch.randint(4, (n,), generator=rng), torch.arange(n)]


CORRUPTIONS: Mapping[str, Callable[[Tensor, Generator], Tensor]] = {
    "Gaussian noise": _gaussian_noise, "impulse noise": _impulse_noise, "blur": _blur, "pixelated": _pixelate,
    "JPEG": _jpeg, "low contrast": _contrast, "bright": _brightness, "shifted": _shift,
}  # fmt: skip
"""Corruptions by name."""
