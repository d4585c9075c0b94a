"""One series whose windows overlap: inputs and targets are cut out of the same few points.

A window of w points and the H that follow it share all but one of their points with the next, so that P points in time
hold P − w − H + 1 pairs of an input and its target::

    x_t = s[t : t + w],    y_t = s[t + w : t + w + H],    t = 0 … P − w − H

Learning what a forecaster is trained on as one series is the form of CondTSF (Ding et al., NeurIPS 2024). With
``harmonics`` the points are a sum of few cosines, whose coefficients are learned instead, as in HDT (AAAI 2026), which
learns those of a Fourier transform::

    s = Cᵀ f,    f zero but at the stored positions,    C: the orthonormal DCT-II

The stored positions are those of the largest mean square over real stretches of that length.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core import DecodeContext, Normalization, Payload, Problem, SeriesData, Source
from potstill.errors import PotstillError
from potstill.functional.transforms import dct_matrix

__all__ = ["POINTS", "STARTS", "Series", "cut_windows", "stretches_at"]

POINTS, STARTS = "points", "starts"
"""Payload tensors: points, and the first point of each window where not every window is an item."""
_COEFFICIENTS, _POSITIONS = "coefficients", "positions"
_STRETCHES = 1000
"""Maximum number of real stretches, evenly spaced, whose coefficients are compared."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series whose overlapping windows are the inputs, and the values after each of them its targets.

    The payload: ``points`` (count, length, v), time after time; or ``coefficients`` (count, harmonics, v) and
    ``positions`` (harmonics,), ascending. Real windows have ``starts`` (n,) besides: the numbers of the windows that
    are items, stretch after stretch.

    Decoding: item t of a stretch is ``points[t : t + w]``, variable by variable, its targets are the next values. From
    coefficients the points are ``Cᵀ f``, where C is the orthonormal DCT-II of ``length`` points and f is zero but at
    the positions.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("series",)
    length: int = 0
    """Points in time of a stretch. 0: as many as the budget holds."""
    count: int = 1
    """Stretches; no window lies on two of them."""
    harmonics: int = 0
    """Cosine coefficients of each variable of a stretch. 0: the points themselves are stored."""
    horizon: int = field(default=0, repr=False, compare=False)
    """Values after each window; 0: not bound to data."""
    longest: int = field(default=0, repr=False, compare=False)
    """Points of the longest real stretch."""

    def __post_init__(self) -> None:
        if min(self.length, self.harmonics) < 0 or self.count < 1:
            raise PotstillError(
                "series: length and harmonics must be at least 0 and count at least 1, but they are "
                f"{self.length}, {self.harmonics} and {self.count}"
            )
        if self.harmonics and not self.harmonics <= self.length:
            raise PotstillError(
                f"series: {self.harmonics} harmonics need a length of at least as many points, but it is "
                f"{self.length}; write series:length=96,harmonics={self.harmonics}"
            )

    @property
    def bounded(self) -> bool:
        """False: series have no range."""
        return False

    def bind(self, train: Source, /) -> "Series":
        """Return the parametrization with the horizon and the longest stretch of ``train``.

        Raises:
            PotstillError: the data are no windows of one series.
        """
        horizon = int(getattr(getattr(train, "task", None), "horizon", 0))
        if not isinstance(train, SeriesData) or horizon < 1:
            raise PotstillError(
                f"parametrization series needs windows of a series to forecast, but {train.name} is not read with "
                '`task="forecast:window=W,horizon=H"`; take pixels'
            )
        low, high = train.input.shape[-1] + horizon, len(train.series)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if len(train.stretches(middle)) else (low, middle - 1)
        return replace(self, horizon=horizon, longest=low)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the windows that the number of values allows.

        Raises:
            PotstillError: there are too few for one window, or too many for real stretches to start from.
        """
        variables, window = shape[-2:]
        if self.horizon < 1:
            raise PotstillError("parametrization series needs a series; it works in a run alone")
        span, each = window + self.horizon, min(numbers) // (self.count * variables)
        points = self.length or min(each, self.longest)
        wanted = self.harmonics or points
        if each < wanted or points < span:
            least = self.count * variables * (self.harmonics or max(self.length, span))
            raise PotstillError(
                f"series: {self._describe(max(points, span), variables)} takes {least:,} numbers, and a window with "
                f"what follows it {span} points, but the budget leaves {min(numbers):,}; raise it, or make window and "
                "horizon shorter"
            )
        if points > self.longest:
            raise PotstillError(
                f"series: stretches of {points:,} points start from real ones, but the longest without a gap has "
                f"{self.longest:,} in the training part; ask for fewer with length="
            )
        return (self.count * (points - span + 1),)

    def _describe(self, points: int, variables: int) -> str:
        parts = f"{self.count} × " if self.count > 1 else ""
        held = f"{self.harmonics} harmonics" if self.harmonics else f"{points:,} points"
        return f"{parts}{held} of {variables} variable{'s' * (variables > 1)}"

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return random real stretches in model space, of as many points as the sizes say; ``x`` is not used."""
        train = problem.train
        assert isinstance(train, SeriesData)  # bind refuses others
        points = sum(problem.sizes) // self.count + problem.context.shape[-1] + self.horizon - 1
        starts = train.stretches(points)
        drawn = starts[torch.randint(len(starts), (self.count,), generator=rng)]
        real = stretches_at(train, drawn, points, problem.train.normalization)
        if not self.harmonics:
            return {POINTS: real}
        spaced = starts[torch.linspace(0, len(starts) - 1, min(len(starts), _STRETCHES)).round().long()]
        compared = stretches_at(train, spaced, points, problem.train.normalization).double()
        power = (dct_matrix(points, compared.dtype, compared.device) @ compared).square().mean((0, 2)).cpu()
        kept = power.argsort(descending=True, stable=True)[: self.harmonics].sort().values.to(real.device)
        coefficients = (dct_matrix(points, real.dtype, real.device) @ real)[:, kept]
        return {_COEFFICIENTS: coefficients, _POSITIONS: kept.to(torch.int32)}

    def points(self, payload: Payload, /) -> Float[Tensor, "count length v"]:
        """Return the points of each stretch, in the space of the payload."""
        if not self.harmonics:
            return payload[POINTS]
        kept, at = payload[_COEFFICIENTS], payload[_POSITIONS].long()
        cosines = dct_matrix(self.length, kept.dtype, kept.device)
        points: Tensor = cosines.T[:, at] @ kept
        return points

    def with_points(self, payload: Payload, points: Float[Tensor, "count length v"], /) -> Payload:
        """Return the payload of other points; of harmonics the stored ones alone, which is the nearest there is."""
        if not self.harmonics:
            return {**payload, POINTS: points}
        cosines = dct_matrix(self.length, points.dtype, points.device)
        return {**payload, _COEFFICIENTS: (cosines @ points)[:, payload[_POSITIONS].long()]}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the windows (n, v, w), stretch by stretch, earliest first."""
        return self._cut(payload, context)[..., : context.shape[-1]]

    def decode_targets(
        self, payload: Payload, context: DecodeContext, normalization: Normalization | None, /
    ) -> Float[Tensor, "n t"]:
        """Return the values after each window (n, t · horizon), variable by variable, in the task's units: of the t
        variables that are forecast."""
        after = self._cut(payload, context)[..., context.shape[-1] :]
        values = after if normalization is None else normalization.invert(after)
        return values[:, : context.forecast_variables or None].flatten(1)

    def _cut(self, payload: Payload, context: DecodeContext) -> Float[Tensor, "n v span"]:
        if context.horizon < 1:
            raise PotstillError("parametrization series is of forecasts, but these targets are none; take pixels")
        cut = cut_windows(self.points(payload), context.shape[-1] + context.horizon)
        return cut[payload[STARTS].long().to(cut.device)] if STARTS in payload else cut

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return every stretch: there are no classes."""
        return {name: slice(None) for name, t in payload.items() if t.is_floating_point()}


def cut_windows(points: Float[Tensor, "count length v"], span: int) -> Float[Tensor, "n v span"]:
    """Return all windows of ``span`` points in time, stretch by stretch."""
    return points.unfold(1, span, 1).flatten(0, 1)


def stretches_at(
    train: SeriesData, starts: Int[Tensor, " m"], length: int, normalization: Normalization
) -> Float[Tensor, "m length v"]:
    """Return real stretches in model space."""
    at = starts[:, None] + torch.arange(length)
    rows = train.series[at.to(train.series.device)]
    return normalization.apply(rows.transpose(1, 2)).transpose(1, 2).contiguous()
