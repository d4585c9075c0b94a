"""Season of a series, and the error of its own naive forecast, by which errors are scaled.

MASE: Hyndman and Koehler, "Another look at measures of forecast accuracy", doi:10.1016/j.ijforecast.2006.03.001.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["find_season", "naive_scale"]

_LEAST = 0.3
"""Minimum autocorrelation of a season. Ours."""


def find_season(series: Float[Tensor, "T v"], longest: int, mask: Bool[Tensor, " T"] | None = None) -> int | None:
    """Return the season of a series: the lag, from 2 to ``longest``, at which its autocorrelation has its highest peak.

    The autocorrelation is that of the differences, which a trend does not raise, averaged over variables. ``None``
    where no peak reaches 0.3.

    Args:
        mask: the points to use.
    """
    steps = series.double().diff(dim=0)
    if mask is not None:
        steps = torch.where((mask[1:] & mask[:-1])[:, None], steps, 0.0)
    longest = min(longest, len(steps) // 2)
    if longest < 2:
        return None
    centred = steps - steps.mean(0)
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = torch.fft.rfft(centred, n=size, dim=0).abs().square()
    found = torch.fft.irfft(power, n=size, dim=0)[: longest + 2]
    spread = found[0].clamp(min=torch.finfo(torch.float64).tiny)
    r = (found / spread).mean(1)
    peaks = [k for k in range(2, longest + 1) if r[k] >= r[k - 1] and (k + 1 >= len(r) or r[k] >= r[k + 1])]
    best = max(peaks, key=lambda k: float(r[k]), default=None)
    return best if best is not None and float(r[best]) >= _LEAST else None


def naive_scale(
    series: Float[Tensor, "T v"], season: int, stretch: Int[Tensor, " T"], mask: Bool[Tensor, " T"]
) -> Float[Tensor, " v"]:
    """Return the mean absolute difference of values a season apart: the error of the seasonal naive forecast.

    Args:
        season: values in a season; 1: the last value is the forecast.
        stretch: gap-free stretch of each point; pairs lie in one.
        mask: the points to use.

    Returns:
        One number for each variable; 0 where no two points are a season apart.
    """
    pairs = mask[season:] & mask[:-season] & (stretch[season:] == stretch[:-season])
    gaps = (series[season:] - series[:-season]).double().abs()[pairs]
    return gaps.sum(0) / max(1, len(gaps))
