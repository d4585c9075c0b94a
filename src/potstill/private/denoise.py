"""Means of cells with less noise: shrunk towards their class, and smoothed by what their spectrum shows."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.functional.transforms import dct2, idct2
from potstill.private.cells import COUNT
from potstill.private.public import PublicFacts
from potstill.private.release import PrivateRelease

__all__ = ["denoised_means"]


def denoised_means(release: PrivateRelease, facts: PublicFacts) -> Float[Tensor, "k cells ..."]:
    """Return the mean of each cell in public units, the largest cell of a class first.

    Wiener's filter: each coefficient of the cosine transform is multiplied by signal / (signal + noise), where the
    noise is known, and the signal is estimated from all cells together; class means and what cells add to them apart.
    """
    k = len(facts.classes)
    means, counts = release.tensors["means"], release.tensors["counts"]
    shape = facts.input.shape
    picture = facts.input.kind == "image"
    maps = means.reshape(-1, *shape)
    cells = len(maps) // k
    counts = counts.reshape(k, cells)
    noise = release.noise_of("pictures") * math.sqrt(means.shape[1]) / math.sqrt(1 - COUNT**2)
    spectrum = dct2(maps) if picture else maps
    spectrum = spectrum.reshape(k, cells, *shape)
    ones = [1] * len(shape)
    weight = counts / counts.sum(1, keepdim=True)
    by_class = (weight.reshape(k, cells, *ones) * spectrum).sum(1, keepdim=True)
    class_noise = (noise * math.sqrt(cells) / counts.sum(1)).reshape(k, 1, *ones)
    rest = spectrum - by_class
    rest_noise = (noise / counts).reshape(k, cells, *ones)
    filtered = _wiener(by_class, class_noise, picture) + _wiener(rest, rest_noise, picture)
    x = idct2(filtered.reshape(-1, *shape)) if picture else filtered
    x = x.reshape(k, cells, *shape)
    order = counts.argsort(dim=1, descending=True)
    x = torch.stack([x[c, order[c]] for c in range(k)])
    return ((x + 1) / 2).clamp(0, 1) if picture else x.clamp(-1, 1)


def _wiener(coefficients: Tensor, noise: Tensor, picture: bool) -> Tensor:
    """Return coefficients (k, cells, …) shrunk by their estimated signal; of pictures by frequency, else by column."""
    power = (coefficients.square() - noise.square()).mean((0, 1), keepdim=True)
    if picture:  # neighbouring frequencies have like power, which is estimated better together
        power = F.avg_pool2d(power[0], 3, stride=1, padding=1, count_include_pad=False)[None]
        power[..., 0, 0] = coefficients[..., 0, 0].square().mean()
    signal = power.clamp_min(0)
    return coefficients * signal / (signal + noise.square() + 1e-12)
