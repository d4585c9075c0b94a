"""MiniRocket: features of series from 84 fixed kernels (Dempster, Schmidt and Webb, arXiv:2012.08791).

A kernel has 9 weights, of which three are 2 and the others −1: 84 in all, each summing to 0. A feature is the share of
a series' convolution with a dilated kernel that lies above a bias::

    PPV = mean_t [ Σ_i w_i x_{t + (i − 4) d} > b ],    d = ⌊2^e⌋, e evenly spaced in [0, log₂((L − 1) / 8)]

Biases are quantiles of the convolution of a training series. Every other combination of kernel and dilation is padded
with zeros, the others leave the ends out. Of several channels each combination adds up some.

Differences from the published code: training series and quantiles come from one low-discrepancy sequence, and none is
drawn; channels are drawn by a fixed generator. Series of fewer than 9 points are padded everywhere.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.rng import generator

__all__ = ["MiniRocket", "choose_dilations", "fit_minirocket", "kernel_weights"]

_KERNELS, _POINTS, _MOST_DILATIONS = 84, 9, 32
_GOLDEN = (math.sqrt(5) - 1) / 2
_AT_ONCE = 2**24
"""Values of convolutions in memory at a time."""


def kernel_weights() -> Float[Tensor, "84 9"]:
    """Return the weights of all kernels: 2 at three of the places, −1 elsewhere."""
    weights = -torch.ones(_KERNELS, _POINTS)
    for kernel, places in enumerate(itertools.combinations(range(_POINTS), 3)):
        weights[kernel, list(places)] = 2
    return weights


def choose_dilations(length: int, each: int) -> list[tuple[int, int]]:
    """Return dilations and how many of ``each`` features of a kernel every one of them has."""
    several = min(each, _MOST_DILATIONS)
    highest = max(0.0, math.log2((length - 1) / (_POINTS - 1))) if length > 1 else 0.0
    exponents = [highest * i / max(1, several - 1) for i in range(several)]
    counts: dict[int, int] = {}
    for exponent in exponents:
        dilation = int(2**exponent + 1e-9)
        counts[dilation] = counts.get(dilation, 0) + 1
    found = {dilation: count * each // several for dilation, count in counts.items()}
    for dilation in itertools.islice(itertools.cycle(found), each - sum(found.values())):
        found[dilation] += 1
    return list(found.items())


@dataclass(frozen=True, slots=True, eq=False)
class MiniRocket:
    """Fitted features: what ``transform`` needs beside the kernels."""

    dilations: tuple[int, ...]
    biases: tuple[Float[Tensor, "84 _"], ...]
    """Biases of each dilation, in a row for each kernel."""
    channels: tuple[Float[Tensor, "84 _"], ...]
    """Channels that each kernel adds up, as 0 and 1, for each dilation."""

    def transform(self, x: Float[Tensor, "n c t"]) -> Float[Tensor, "n features"]:
        """Return the features of series, float32, in [0, 1]."""
        parts = []
        for some in torch.split(x, max(1, _AT_ONCE // (_KERNELS * x.shape[2]))):
            features = []
            for at, dilation in enumerate(self.dilations):
                outputs = _convolve(some, dilation, self.channels[at])
                for is_padded in (True, False):
                    kernels = _kernels_of(at, is_padded, dilation, x.shape[2])
                    if len(kernels):
                        features.append(_shares(outputs, kernels, is_padded, dilation, self.biases[at]))
            parts.append(torch.cat(features, 1))
        return torch.cat(parts)


def _kernels_of(at: int, is_padded: bool, dilation: int, length: int) -> Int[Tensor, " k"]:
    """Return the kernels of a dilation that are padded, or those that are not."""
    if length <= 8 * dilation:
        return torch.arange(_KERNELS if is_padded else 0)
    return torch.arange((at + (not is_padded)) % 2, _KERNELS, 2)


def _convolve(x: Float[Tensor, "n c t"], dilation: int, channels: Float[Tensor, "84 c"]) -> Float[Tensor, "n 84 t"]:
    """Return the padded convolutions of all kernels with the sum of their channels."""
    weights = kernel_weights().to(x)[:, None]
    if x.shape[1] == 1:
        return torch.nn.functional.conv1d(x, weights, padding=4 * dilation, dilation=dilation)
    summed = torch.einsum("kc,nct->nkt", channels.to(x), x)
    return torch.nn.functional.conv1d(summed, weights, padding=4 * dilation, dilation=dilation, groups=_KERNELS)


def _shares(
    outputs: Float[Tensor, "n 84 t"], kernels: Int[Tensor, " k"], is_padded: bool, dilation: int,
    biases: Float[Tensor, "84 f"],
) -> Float[Tensor, "n m"]:  # fmt: skip
    """Return the share of each convolution above each of its biases."""
    inner = outputs[:, kernels] if is_padded else outputs[:, kernels, 4 * dilation : outputs.shape[2] - 4 * dilation]
    bounds = biases[kernels].to(inner)
    above = [(inner > bounds[:, f, None]).float().sum(2) for f in range(bounds.shape[1])]  # faster than to sort
    return (torch.stack(above, 2) / inner.shape[2]).flatten(1)


def fit_minirocket(x: Float[Tensor, "n c t"], features: int) -> MiniRocket:
    """Return the features of training series; draws nothing.

    Args:
        features: their number, rounded down to a multiple of 84, at least 84.
    """
    n, c, length = x.shape
    chosen = choose_dilations(length, max(1, features // _KERNELS))
    rng = generator(0, "minirocket", "channels")
    biases, channels, quantile = [], [], 0
    for at, (dilation, count) in enumerate(chosen):
        taken = torch.ones(_KERNELS, c)
        if c > 1:
            exponents = torch.rand(_KERNELS, generator=rng) * math.log2(min(c, _POINTS) + 1)
            numbers = (2**exponents).long().clamp(1, c)
            taken = (torch.rand(_KERNELS, c, generator=rng).argsort(1).argsort(1) < numbers[:, None]).float()
        channels.append(taken)
        source = (((at * _KERNELS + torch.arange(_KERNELS) + 1).double() * _GOLDEN).frac() * n).long()
        outputs = _convolve(x[source.to(x.device)], dilation, taken)[torch.arange(_KERNELS), torch.arange(_KERNELS)]
        of_dilation = torch.zeros(_KERNELS, count)
        padded = set(_kernels_of(at, True, dilation, length).tolist())
        for kernel in range(_KERNELS):
            row = outputs[kernel]
            row = row if kernel in padded else row[4 * dilation : length - 4 * dilation]
            at_quantiles = ((quantile + 1 + torch.arange(count)).double() * _GOLDEN).frac()
            of_dilation[kernel] = torch.quantile(row.double().cpu(), at_quantiles).float()
            quantile += count
        biases.append(of_dilation)
    return MiniRocket(tuple(d for d, _ in chosen), tuple(biases), tuple(channels))
